#!/usr/bin/env bash
# bash launch/quickstart.sh [--workdir=DIR] [--config.KEY=VALUE ...]
# Sets up, trains a small model on the toy cars (at most 15 minutes on 2 cores), and prints the path
# of its sample grid. Run the same command to resume.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh "" # Without an argument it would get this script's.
exec python -m ssagan_jax.main --config=configs/quickstart.py "$@"
