#!/usr/bin/env bash
# bash launch/test.sh [--parity | --faults | --latest | --oldest] [PYTEST ARGUMENTS]
# Sets up and runs the tests. --parity installs PyTorch and runs those that compare with it; --faults
# runs those that kill runs, fill disks and damage checkpoints, which take minutes. --latest and
# --oldest run the tests with the newest and the oldest versions that setup.cfg allows, in
# environments of their own.
set -euo pipefail
CDPATH="" cd "$(dirname "$0")/.."
workers=(-n 2 --dist loadfile --no-loadscope-reorder)
if [ "${1:-}" = --latest ]; then
  shift
  export LATEST=1 VENV=.venv-latest
  rm -f .venv-latest/installed-* # What is the newest changes.
elif [ "${1:-}" = --oldest ]; then
  shift
  oldest="$(mktemp)"
  trap 'rm -f "$oldest"' EXIT
  sed -n 's/^ *\([A-Za-z_-]*\) >= \([0-9.]*\).*/\1 == \2/p' setup.cfg > "$oldest"
  export CONSTRAINTS="$oldest" VENV=.venv-oldest
fi
if [ "${1:-}" = --parity ]; then
  shift
  . launch/environment.sh test,parity
  python -m pip install --quiet --disable-pip-version-check --no-deps torch-fidelity==0.4.0
  export SSAGAN_PARITY=1
  set -- tests/parity "$@"
else
  . launch/environment.sh test
  if [ "${1:-}" = --faults ]; then
    shift
    workers=() # Its tests time each other.
    set -- tests/faults "$@"
  fi
fi
python -m pytest "${workers[@]}" "$@"
