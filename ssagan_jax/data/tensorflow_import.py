"""Imports TensorFlow quietly and keeps it off the GPU."""

import contextlib
import os
import sys


def import_tensorflow() -> None:
    """Imports tensorflow without its banner, and keeps it off the memory that JAX needs."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    # Tensorflow refuses to change devices that an earlier user has already started.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
