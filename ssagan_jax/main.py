"""Trains a model: `python -m ssagan_jax.main --config=configs/bert.py`."""

import os
import sys
from pathlib import Path

# Tensorflow, which only writes TensorBoard's files here, greets with warnings otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import app, flags, logging
from ml_collections import config_flags

from ssagan_jax.failures import told

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The run: configs/NAME.py or configs/NAME.py:VARIANT.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run; runs/NAME or runs/NAME-VARIANT where empty."
)


def default_workdir(config_file: str) -> str:
    """runs/NAME for "configs/NAME.py", runs/NAME-VARIANT for "configs/NAME.py:VARIANT"."""
    file, _, variant = config_file.partition(":")
    return str(Path("runs") / "-".join(filter(None, (Path(file).stem, variant))))


def main(argv: list[str]) -> None:
    """Hands config and work folder to the training job."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1:]}: not understood; write --name=value")
    logging.set_verbosity(logging.WARNING)
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    from ssagan_jax import train

    config_file = flags.FLAGS["config"].config_filename
    with told():
        train.train(_CONFIG.value, _WORKDIR.value or default_workdir(config_file))


def run() -> None:
    """The command line."""
    flags.mark_flag_as_required("config")
    app.run(main)


if __name__ == "__main__":
    sys.exit(run())
