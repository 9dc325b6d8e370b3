#!/usr/bin/env bash
# bash launch/test.sh [PYTEST ARGUMENTS]
# Sets up and runs the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh test
python -m pytest "$@"
