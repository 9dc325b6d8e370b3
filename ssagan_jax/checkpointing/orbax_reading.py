"""Reads the items of a checkpoint with orbax, and turns whatever it raises into one error."""

import functools
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from ssagan_jax.checkpointing.checksums import (
    CorruptionError,
    check_file_checksums,
    write_file_checksums,
)

PyTree = Any


class StateHandler(ocp.StandardCheckpointHandler):
    """Orbax's handler of arrays, with checksums of its files.

    They are written before the checkpoint gets its name and checked before orbax reads a file: its
    libraries may hang if they cancel the reads of other arrays after one has failed.
    """

    def finalize(self, directory: epath.Path) -> None:
        """Completes the files of a checkpoint."""
        super().finalize(directory)
        write_file_checksums(directory)

    def restore(self, directory: epath.Path, *arguments: Any, **named_arguments: Any) -> PyTree:
        """Reads arrays; raises CorruptionError if a file has changed."""
        check_file_checksums(directory)
        return super().restore(directory, *arguments, **named_arguments)


def single_process_options() -> ocp.options.MultiprocessingOptions:
    """Options by which this process waits for no other: one process reads and writes for all."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )


def read_json(folder: epath.Path) -> Any:
    """Reads a JSON item; raises CorruptionError."""
    handler = ocp.JsonCheckpointHandler(multiprocessing_options=single_process_options())
    return _read(handler, folder, ocp.args.JsonRestore())


def read_arrays(folder: epath.Path, template: PyTree) -> PyTree:
    """Reads a tree of arrays with the shapes of a template; raises CorruptionError."""
    handler = StateHandler(multiprocessing_options=single_process_options())
    return _read(handler, folder, ocp.args.StandardRestore(template))


def _read(handler: ocp.CheckpointHandler, folder: epath.Path, args: Any) -> Any:
    with _one_error_per_read():
        try:
            return handler.restore(folder, args=args)
        except (PermissionError, MemoryError):
            raise
        except Exception as error:  # The parsers below orbax raise many types.
            reason = str(error).partition("\n")[0][:160] or type(error).__name__
            # After a wrong checksum nothing was read, and a JSON item is one file.
            pending = isinstance(handler, StateHandler) and not isinstance(error, CorruptionError)
        if pending:
            gc.collect()  # Here, not later, the other failed reads are reported and dropped.
        raise CorruptionError(f"{folder.name} cannot be read: {reason}")


@contextmanager
def _one_error_per_read() -> Iterator[None]:
    """Suppresses the tracebacks of reads that fail beside the first one.

    Orbax reads all arrays of a checkpoint at once. Of a damaged one, many reads fail, and all but
    the first are logged by asyncio or, once its event loop is closed, passed to sys.unraisablehook.
    """
    _ignore_closed_event_loops()
    logger = logging.getLogger("asyncio")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


@functools.cache  # Installed once, and for good: some reads end long after the first has failed.
def _ignore_closed_event_loops() -> None:
    default_hook = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            default_hook(unraisable)

    sys.unraisablehook = hook
