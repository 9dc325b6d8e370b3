#!/usr/bin/env bash
# bash launch/fuzz.sh MINUTES [TARGET ...]
# Reads damaged and hostile files for so many minutes, each kind in turn (tests/fuzz/targets.py), and
# counts what was read, refused, and failed.
set -euo pipefail
CDPATH="" cd "$(dirname "$0")/.."
. launch/environment.sh test
export JAX_PLATFORMS=cpu PYTHONPATH="$PWD:$PWD/tests"
python -m fuzz.run "$@"
