"""Trains a model: `python -m ssagan_jax.main --config=bert`."""

import os
import re
import sys
from pathlib import Path

# TensorFlow only writes TensorBoard's files here; this silences the warnings of its import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import app, flags, logging
from ml_collections import config_flags

from ssagan_jax.config import default_config, flatten
from ssagan_jax.config.command_line import describe_command
from ssagan_jax.config.validation import check_key, check_number, validate
from ssagan_jax.errors import InputError, exit_on_user_error


def _config_folder() -> Path:
    """The folder of the project's configs: a wheel has it inside of the package, a clone beside."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _config_names() -> str:
    """The names of the project's configs, separated by commas."""
    return ", ".join(sorted(file.stem for file in _config_folder().glob("*.py")))


_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    f"Config of the run: one of {_config_names()}, NAME:DATA for prepared data, or "
    "FILE.py[:DATA]. Change keys with --config.KEY=VALUE; docs/training.md lists them.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "Work folder of the run; default: runs/NAME or runs/NAME-VARIANT."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    None,
    "Train together with the processes of a TPU slice or of Kubernetes. Processes that Slurm or "
    "Open MPI started, or that have the three flags below, train together without it.",
)
_ADDRESS = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer(
    "process_id", None, "Number of this process, from 0.", lower_bound=0
)


def find_config(value: str) -> str:
    """The file of a --config that names one: "bert:my_cars" to ".../configs/bert.py:my_cars".

    Other values are returned as they are.

    Raises:
      InputError: there is no config of that name.
    """
    name, separator, variant = value.partition(":")
    if not re.fullmatch(r"[\w-]+", name):
        return value
    folder = _config_folder()
    if not (folder / f"{name}.py").is_file():
        raise InputError(
            f"--config={value}: no config of that name; choose one of {_config_names()}, or give "
            "the path of a config file"
        )
    return f"{folder / name}.py{separator}{variant}"


def default_workdir(config_file: str) -> str:
    """runs/NAME for "configs/NAME.py", runs/NAME-VARIANT for "configs/NAME.py:VARIANT"."""
    file, _, variant = config_file.partition(":")
    return str(Path("runs") / "-".join(filter(None, (Path(file).stem, variant))))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; reports an invalid one in a single message."""
    with exit_on_user_error():
        argv = list(argv)
        for index, argument in enumerate(argv[1:], 1):
            name, separator, value = argument.lstrip("-").partition("=")
            if not argument.startswith("-"):
                continue
            if name.startswith("config."):
                key = name.removeprefix("config.")
                check_key(key)
                if separator:
                    check_number(key, value)
            elif name in flatten(default_config()):
                raise InputError(f"--{name}: there is no such flag; did you mean --config.{name}?")
            elif name == "config" and separator:
                argv[index] = f"--config={find_config(value)}"
            elif name == "config" and index + 1 < len(argv):
                argv[index + 1] = find_config(argv[index + 1])
        try:
            rest = flags.FLAGS(argv)[1:]
            _CONFIG.value.to_dict()  # Reads the config file, which may be missing.
        except (flags.Error, OSError) as error:
            raise InputError(_flag_error_message(error)) from error
        if rest:
            raise InputError(f"{' '.join(rest)}: not understood; write --name=value")
        validate(_CONFIG.value)  # Now, before the slow imports.
    return argv[:1]


def _flag_error_message(error: BaseException) -> str:
    """The message of an InputError or OSError in a config file, or else of the flags library."""
    cause = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, InputError):
        return str(cause)
    # Of a file that was not read, no key is a known flag; those of all configs were checked before.
    missing = "--config=None" in str(error) or "flag 'config." in str(error)
    if flags.FLAGS["config"].value is None and missing:
        return (
            f"--config: is missing; give {_config_names()} (NAME:DATA for prepared data), or the "
            "path of a config file"
        )
    if isinstance(cause, OSError):
        return f"--config: {str(cause).splitlines()[-1].strip()}"
    return str(error)


def main(argv: list[str]) -> None:
    """Connects to other processes if there are any, and trains."""
    logging.set_verbosity(logging.WARNING)
    config_file = flags.FLAGS["config"].config_filename
    with exit_on_user_error():  # Ctrl-C may come during these imports, which take seconds.
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        from ssagan_jax import distributed
        from ssagan_jax.config.compilation_cache import enable_compilation_cache
        from ssagan_jax.training import loop
    with distributed.exit_without_barrier(), exit_on_user_error():
        enable_compilation_cache(_CONFIG.value.train.compilation_cache)
        cluster = (_ADDRESS.value, _PROCESSES.value, _PROCESS.value)
        detected = distributed.launched_by_scheduler() or cluster != (None, None, None)
        if _DISTRIBUTED.value or (_DISTRIBUTED.value is None and detected):
            distributed.initialize(*cluster)
        loop.train(_CONFIG.value, _WORKDIR.value or default_workdir(config_file))


def run_command() -> None:
    """Runs the command line."""
    flags.mark_flag_as_required("config")
    sys.modules["__main__"].__doc__ = describe_command("main", __doc__)  # Begins --help.
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    sys.exit(run_command())
