#!/usr/bin/env bash
# bash launch/multihost.sh HOST:PORT N I --config=configs/bert.py [--workdir=DIR] [--config.KEY=VALUE ...]
# Trains with N processes on any network. Run it on each of N machines with I = 0, ..., N-1. HOST is
# the machine of process 0, which has the work folder; PORT is a free port there.
#
# bash launch/multihost.sh --local N --config=configs/bert.py [...]
# Starts N processes on this machine, which share its GPUs. If one fails, the others are stopped.
set -euo pipefail
CDPATH="" cd "$(dirname "$0")/.."
usage() {
  sed -n '2,7s/^# \{0,1\}//p' launch/multihost.sh >&2
  exit 2
}
train() { # I ARGUMENTS
  exec python -m ssagan_jax.main --distributed "--coordinator_address=$address" \
    "--num_processes=$processes" "--process_id=$1" "${@:2}"
}
train_here() { # I ARGUMENTS
  local share=$((${#gpus[@]} / processes))
  if [ "$share" -gt 0 ]; then
    CUDA_VISIBLE_DEVICES="$(IFS=,; echo "${gpus[*]:$(($1 * share)):share}")"
    export CUDA_VISIBLE_DEVICES
  fi
  train "$@"
}
if [ "${1:-}" != --local ]; then
  [[ "${1:-}" = *:* && "${2:-}" =~ ^[1-9][0-9]*$ && "${3:-}" =~ ^[0-9]+$ ]] || usage
  [ "$3" -lt "$2" ] || usage
  address="$1" processes="$2"
  . launch/environment.sh auto
  train "${@:3}"
fi

[[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || usage
processes="$2"
shift 2
. launch/environment.sh auto
port="$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')"
address="127.0.0.1:$port"
count="$(nvidia-smi --list-gpus 2>/dev/null | grep -c ^GPU || true)"
mapfile -t gpus < <([ "$count" -eq 0 ] || seq 0 $((count - 1)))
[ -z "${CUDA_VISIBLE_DEVICES:-}" ] || IFS=, read -ra gpus <<< "$CUDA_VISIBLE_DEVICES"
if [ $((${#gpus[@]} % processes)) -ne 0 ]; then
  echo "error: --local $processes: must divide the ${#gpus[@]} GPUs" >&2
  exit 2
fi
# Job control puts each process in its own group, so that it gets Ctrl-C once, from this script: a
# second signal would end it without a checkpoint.
set -m
pids=()
for ((i = 0; i < processes; i++)); do
  train_here "$i" "$@" &
  pids+=($!)
done
stopping=""
stop() { # SIGNAL
  stopping=yes
  kill -"$1" "${pids[@]}" 2>/dev/null || true
}
trap 'stop TERM' TERM HUP
trap 'stop INT' INT
code=0
while [ -z "$stopping" ] && [ -n "$(jobs -rp)" ]; do
  wait -n || code=$?
  [ -z "$stopping" ] || code=0
  [ "$code" -eq 0 ] || stop TERM
done
# Each process saves and exits; JAX ends those that wait for a lost process after two minutes.
for pid in "${pids[@]}"; do
  while result=0; wait "$pid" || result=$?; kill -0 "$pid" 2>/dev/null; do :; done
  [ "$code" -ne 0 ] || code="$result"
done
exit "$code"
