#!/usr/bin/env bash
# bash launch/test.sh [--parity | --faults] [PYTEST ARGUMENTS]
# Sets up and runs the tests. --parity installs PyTorch and runs those that compare with it; --faults
# runs those that kill runs, fill disks and damage checkpoints, which take minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=(-n 2 --dist loadfile)
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
