#!/usr/bin/env bash
# bash launch/test.sh [--parity] [PYTEST ARGUMENTS]
# Sets up and runs the tests; with --parity those that compare with PyTorch, which it installs.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --parity ]; then
  shift
  . launch/environment.sh test,parity
  python -m pip install --quiet --disable-pip-version-check --no-deps torch-fidelity==0.4.0
  export SSAGAN_PARITY=1
  set -- tests/parity "$@"
else
  . launch/environment.sh test
fi
python -m pytest "$@"
