#!/usr/bin/env bash
# bash launch/quickstart.sh [--workdir=DIR] [--config.KEY=VALUE ...]
# bash launch/quickstart.sh --pretrained [FLAGS OF ssagan_jax.sample]
# Sets up, trains a small model on the toy cars (8 to 15 minutes on 2 cores), and prints the path
# of its sample grid. Run the same command to resume. With --pretrained it does not train: it
# generates images of a caption with the model in launch/toy_cars.
set -euo pipefail
CDPATH="" cd "$(dirname "$0")/.."
. launch/environment.sh "" # Without an argument it would get this script's.
if [ "${1:-}" = --pretrained ]; then
  shift
  [ $# -gt 0 ] || set -- --caption="a red pickup truck on the beach" --caption="a blue van facing left"
  exec python -m ssagan_jax.sample --workdir=launch/toy_cars --output=runs/pretrained "$@"
fi
[ -n "$tcmalloc" ] || echo "tip: with tcmalloc a CPU trains 1.25 times as fast, see docs/launch.md"
exec python -m ssagan_jax.main --config=configs/quickstart.py "$@"
