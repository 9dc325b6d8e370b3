"""Imports TensorFlow without its output and off the GPU, and silences TFDS."""

import contextlib
import os
import sys
from collections.abc import Iterator

from absl import logging


def import_tensorflow() -> None:
    """Imports tensorflow without its banner, and hides the GPUs, whose memory JAX needs."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    # TensorFlow refuses to change the devices once they have been used.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Silences TFDS: its prints, its warnings and, for the whole process, its progress bars."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with open(os.devnull, "w", errors="replace") as sink, contextlib.redirect_stdout(sink):
            yield
    finally:
        logging.set_verbosity(verbosity)
