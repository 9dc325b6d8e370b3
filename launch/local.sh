#!/usr/bin/env bash
# bash launch/local.sh --config=configs/bert.py [--workdir=DIR] [--config.KEY=VALUE ...]
# Sets up for this machine's accelerator and trains on all its GPUs (or its TPU, or its CPU) in one
# process. Run the same command to resume.
set -euo pipefail
CDPATH="" cd "$(dirname "$0")/.."
. launch/environment.sh auto
python -c 'import jax; print("devices:", jax.device_count(), "x", jax.devices()[0].device_kind)'
exec python -m ssagan_jax.main "$@"
