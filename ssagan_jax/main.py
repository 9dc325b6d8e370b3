"""Trains a model: `python -m ssagan_jax.main --config=configs/bert.py`."""

import os
import sys
from pathlib import Path

# Tensorflow, which only writes TensorBoard's files here, greets with warnings otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import app, flags, logging
from ml_collections import config_flags

from ssagan_jax.config_validation import check_key, validate
from ssagan_jax.errors import InputError
from ssagan_jax.exit_codes import exit_on_user_error

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The run: configs/NAME.py or configs/NAME.py:VARIANT.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run; runs/NAME or runs/NAME-VARIANT where empty."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    None,
    "Train together with the processes that a TPU slice or Kubernetes runs; it is so without this "
    "flag where Slurm or Open MPI started several, and with the three flags below.",
)
_ADDRESS = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of the first process.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process_id", None, "Of this one, from 0.", lower_bound=0)


def default_workdir(config_file: str) -> str:
    """runs/NAME for "configs/NAME.py", runs/NAME-VARIANT for "configs/NAME.py:VARIANT"."""
    file, _, variant = config_file.partition(":")
    return str(Path("runs") / "-".join(filter(None, (Path(file).stem, variant))))


def parsed(argv: list[str]) -> list[str]:
    """Reads the flags, with one message for whatever is wrong with them."""
    with exit_on_user_error():
        for argument in argv[1:]:
            name, _, _ = argument.lstrip("-").partition("=")
            if argument.startswith("-") and name.startswith("config."):
                check_key(name.removeprefix("config."))
        try:
            rest = flags.FLAGS(argv)[1:]
            _CONFIG.value.to_dict()  # A config file that is missing shows only now.
        except (flags.Error, OSError) as error:
            raise InputError(_reason(error)) from error
        if rest:
            raise InputError(f"{' '.join(rest)}: not understood; write --name=value")
        validate(_CONFIG.value)  # Told at once, before anything large is imported.
    return argv[:1]


def _reason(error: BaseException) -> str:
    """What a config file itself refused, or else what the flags' library says of it."""
    cause = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, InputError):
        return str(cause)
    if isinstance(cause, OSError):
        return f"--config: {str(cause).splitlines()[-1].strip()}"
    return str(error)


def main(argv: list[str]) -> None:
    """Hands config and work folder to the training job."""
    logging.set_verbosity(logging.WARNING)
    config_file = flags.FLAGS["config"].config_filename
    with exit_on_user_error():  # The imports take seconds, in which Ctrl-C may come.
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        from ssagan_jax import distributed
        from ssagan_jax.training import loop
    with distributed.exit_without_barrier(), exit_on_user_error():
        named = (_ADDRESS.value, _PROCESSES.value, _PROCESS.value)
        several = distributed.launched_by_scheduler() or named != (None, None, None)
        if _DISTRIBUTED.value or (_DISTRIBUTED.value is None and several):
            distributed.initialize(*named)
        loop.train(_CONFIG.value, _WORKDIR.value or default_workdir(config_file))


def run() -> None:
    """The command line."""
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parsed)


if __name__ == "__main__":
    sys.exit(run())
