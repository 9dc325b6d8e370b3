#!/usr/bin/env bash
# bash launch/quickstart.sh [--workdir=DIR] [--config.KEY=VALUE ...]
# Sets up, trains a small model on the embedded toy cars (at most 15 minutes on 2 cores), and says
# where its sample sheet lies. Run again it goes on, or shows what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh "" # Without an argument it would see those of this script.
exec python -m ssagan_jax.main --config=configs/quickstart.py "$@"
