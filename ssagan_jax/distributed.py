"""Training one run in several processes, on one or more machines.

Each process has its own devices and reads its own rows of every batch. Only the primary process
(number 0) reads and writes the work folder and broadcasts what the others need, so the machines
share no folder.
"""

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from ssagan_jax.errors import InputError, exit_immediately

T = TypeVar("T")
PyTree = Any

# Environment variables of a process that a scheduler started: one that is set, and the count.
_SCHEDULERS = (
    ("SLURM_STEP_NODELIST", "SLURM_NTASKS"),
    ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE"),
)


class ProcessError(InputError):
    """Processes cannot connect, or have different devices or data."""


def launched_by_scheduler() -> bool:
    """Whether Slurm or Open MPI started this process as one of several."""
    return any(
        name in os.environ and int(os.environ.get(count, "1")) > 1 for name, count in _SCHEDULERS
    )


def initialize(address: str | None, count: int | None, index: int | None) -> None:
    """Connects to the other processes; call it before any other function of jax.

    Args:
      address: HOST:PORT of process 0; None lets jax detect the cluster.
      count: number of processes; None as above.
      index: of this process, from 0; None as above.

    Raises:
      ProcessError: they cannot be reached, or have different numbers of devices.
    """
    try:
        jax.distributed.initialize(address, count, index)
    except (ValueError, RuntimeError) as error:
        raise ProcessError(
            f"--distributed: {str(error).splitlines()[0]}; on Slurm, TPU, Kubernetes and Open MPI "
            "the processes find each other; elsewhere give each of them --coordinator_address="
            "HOST:PORT --num_processes=N --process_id=0, 1, ... N-1"
        ) from error
    counts = np.bincount([device.process_index for device in jax.devices()])
    if len(set(counts)) > 1:
        raise ProcessError(
            f"the processes have {counts.tolist()} devices; give all of them the same number"
        )


def is_primary() -> bool:
    """Whether this process reads and writes the work folder."""
    return jax.process_index() == 0


def print_on_primary(text: str) -> None:
    """Prints a line in the primary process only, above a progress bar if there is one."""
    if is_primary():
        with tqdm.external_write_mode():
            print(text, flush=True)


def broadcast_tree(tree: PyTree) -> PyTree:
    """Returns the primary process's arrays in all processes, bit for bit, as numpy arrays.

    The other processes pass arrays of the same shapes and types.
    """
    if jax.process_count() == 1:
        return tree
    own = jax.tree.map(lambda leaf: np.asarray(leaf, order="C"), tree)
    # As bytes: the broadcast is a sum, which would lose the sign of a zero.
    sent = multihost_utils.broadcast_one_to_all(
        jax.tree.map(lambda leaf: leaf.reshape(-1).view(np.uint8), own)
    )
    return jax.tree.map(
        lambda leaf, got: np.asarray(got).view(leaf.dtype).reshape(leaf.shape), own, sent
    )


def raise_together(work: Callable[[], T]) -> T:
    """Calls `work` in all processes and returns its result; if one process fails, all raise.

    Raises:
      InputError: of this process; or a ProcessError that names the process that failed.
    """
    if jax.process_count() == 1:
        return work()
    result = own_error = None
    try:
        result = work()
    except InputError as error:
        own_error = error
    failed = multihost_utils.process_allgather(np.asarray(own_error is not None))
    if own_error is not None:
        raise own_error
    if failed.any():
        raise ProcessError(f"process {int(failed.argmax())} failed; see its log")
    return result


def broadcast_text(work: Callable[[], str]) -> str:
    """Calls `work` in the primary process and returns its text in all processes.

    Raises:
      InputError: as `raise_together`.
    """
    text = raise_together(lambda: work() if is_primary() else "")
    if jax.process_count() == 1:
        return text
    own = np.frombuffer(text.encode(), np.uint8)
    length = int(broadcast_tree(np.asarray(own.size)))
    return broadcast_tree(own if is_primary() else np.zeros(length, np.uint8)).tobytes().decode()


def assert_equal_across_processes(what: str, digest: str) -> None:
    """Raises ProcessError in all processes if one has another digest than the primary process."""
    primary = broadcast_text(lambda: digest)

    def compare() -> None:
        if digest != primary:
            raise ProcessError(
                f"process {jax.process_index()} has other {what} than process 0; all machines need "
                "the same"
            )

    raise_together(compare)


def all_processes_have(flag: bool) -> bool:
    """Whether a flag is true in every process."""
    return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


@contextlib.contextmanager
def exit_without_barrier() -> Iterator[None]:
    """Ends a process that fails at once.

    Otherwise jax's shutdown barrier would wait for processes that wait for this one.
    """
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        # After a signal (above 128) all processes have stopped at the same step.
        if jax.process_count() == 1 or code in (None, 0) or code > 128:
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        exit_immediately(code)
