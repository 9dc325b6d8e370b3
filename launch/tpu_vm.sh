#!/usr/bin/env bash
# bash launch/tpu_vm.sh TPU ZONE --config=configs/bert.py [--workdir=DIR] [--config.KEY=VALUE ...]
# Trains on all workers of an existing TPU VM: copies the project to each, installs it, and starts
# one process in the background. Run the same command to resume. The work folder is in ssagan_jax/
# on worker 0.
set -euo pipefail
CDPATH="" cd "$(dirname "$0")/.."
if [ $# -lt 3 ]; then
  sed -n '2,5s/^# //p' launch/tpu_vm.sh >&2
  exit 2
fi
tpu="$1" zone="$2"
shift 2
on_all() { gcloud compute tpus tpu-vm ssh "$tpu" --zone="$zone" --worker=all --command="$1"; }

bundle="$(mktemp -d)/ssagan_jax.tar.gz"
trap 'rm -rf "$(dirname "$bundle")"' EXIT
tar --exclude=./.git --exclude='./.venv*' --exclude=./runs --exclude=__pycache__ -czf "$bundle" .
gcloud compute tpus tpu-vm scp "$bundle" "$tpu:ssagan_jax.tar.gz" --zone="$zone" --worker=all
# The images have Python 3.10, which JAX no longer supports; uv installs a newer one.
# shellcheck disable=SC2016
on_all 'set -eu
if [ -f ssagan_jax/train.pid ] && kill -0 "$(cat ssagan_jax/train.pid)" 2>/dev/null; then
  echo "error: training is already running here; stop it first" >&2
  exit 2
fi
mkdir -p ssagan_jax
tar -xzf ssagan_jax.tar.gz -C ssagan_jax
cd ssagan_jax
if [ ! -x .venv/bin/python ]; then
  curl -LsSf https://astral.sh/uv/install.sh | sh
  "$HOME/.local/bin/uv" python install 3.12
  PYTHON="$("$HOME/.local/bin/uv" python find --managed-python 3.12)"
  export PYTHON
fi
bash -c "set -euo pipefail; . launch/environment.sh tpu"'
on_all "cd ssagan_jax
PATH=\"\$PWD/.venv/bin:\$PATH\"
nohup python -m ssagan_jax.main --distributed $(printf '%q ' "$@") >> train.out 2>&1 < /dev/null &
echo \$! > train.pid"
on="gcloud compute tpus tpu-vm ssh $tpu --zone=$zone"
echo "started. To follow the log: $on --command='tail -f ssagan_jax/train.out'"
echo "To stop with a checkpoint:  $on --worker=all --command='kill \$(cat ssagan_jax/train.pid)'"
