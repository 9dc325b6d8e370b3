"""Several processes, on one machine or on more, that train one run together.

Each has its own devices and reads its own rows of every batch. The first one alone reads and
writes the work folder, and tells the others what they need of it, so that no folder is shared.
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

from ssagan_jax.errors import InputError
from ssagan_jax.exit_codes import exit_immediately

T = TypeVar("T")
PyTree = Any

# Of each process that a scheduler started: how many there are.
_SCHEDULERS = (
    ("SLURM_STEP_NODELIST", "SLURM_NTASKS"),
    ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE"),
)


class ProcessError(InputError):
    """Processes that cannot find each other, or do not fit together."""


def launched_by_scheduler() -> bool:
    """Whether Slurm or Open MPI started this process as one of several."""
    return any(
        mark in os.environ and int(os.environ.get(count, "1")) > 1 for mark, count in _SCHEDULERS
    )


def initialize(address: str | None, count: int | None, index: int | None) -> None:
    """Joins the other processes; before anything else is asked of jax.

    Args:
      address: HOST:PORT of the first process; None to let jax find the cluster by itself.
      count: how many processes there are, likewise.
      index: of this one, from 0, likewise.

    Raises:
      ProcessError: they cannot be found, or have unlike numbers of devices.
    """
    try:
        jax.distributed.initialize(address, count, index)
    except (ValueError, RuntimeError) as error:
        raise ProcessError(
            f"--distributed: {str(error).splitlines()[0]}; on Slurm, TPU, Kubernetes and Open MPI "
            "the processes find each other, elsewhere give each of them --coordinator_address="
            "HOST:PORT --num_processes=N --process_id=0, 1, ... N-1"
        ) from error
    found = np.bincount([device.process_index for device in jax.devices()])
    if len(set(found)) > 1:
        raise ProcessError(f"the processes have {found.tolist()} devices; give each as many")


def is_primary() -> bool:
    """Whether this process is the one that reads and writes the work folder."""
    return jax.process_index() == 0


def print_on_primary(text: str) -> None:
    """Prints a line once for all processes, above a progress bar if there is one."""
    if is_primary():
        with tqdm.external_write_mode():
            print(text, flush=True)


def broadcast_tree(tree: PyTree) -> PyTree:
    """The first process's arrays, in all processes; the others give arrays of the same kind.

    They come back as numpy arrays with the same bits.
    """
    if jax.process_count() == 1:
        return tree
    own = jax.tree.map(lambda leaf: np.asarray(leaf, order="C"), tree)
    # As bytes, since what carries them over is a sum, which would lose the sign of a zero.
    sent = multihost_utils.broadcast_one_to_all(
        jax.tree.map(lambda leaf: leaf.reshape(-1).view(np.uint8), own)
    )
    return jax.tree.map(
        lambda leaf, got: np.asarray(got).view(leaf.dtype).reshape(leaf.shape), own, sent
    )


def raise_together(work: Callable[[], T]) -> T:
    """What `work` gives; where it fails in one process for its input, it fails in all.

    Raises:
      InputError: this process's own, or one that says that another process had one.
    """
    if jax.process_count() == 1:
        return work()
    result, fault = None, None
    try:
        result = work()
    except InputError as error:
        fault = error
    faults = multihost_utils.process_allgather(np.asarray(fault is not None))
    if fault is not None:
        raise fault
    if faults.any():
        raise ProcessError(f"process {int(faults.argmax())} cannot go on; it says why")
    return result


def broadcast_text(work: Callable[[], str]) -> str:
    """The text that `work` gives in the first process, in all of them.

    Raises:
      InputError: as `together`.
    """
    text = raise_together(lambda: work() if is_primary() else "")
    if jax.process_count() == 1:
        return text
    own = np.frombuffer(text.encode(), np.uint8)
    length = int(broadcast_tree(np.asarray(own.size)))
    return broadcast_tree(own if is_primary() else np.zeros(length, np.uint8)).tobytes().decode()


def assert_equal_across_processes(what: str, digest: str) -> None:
    """Refuses to go on, in all processes, where one of them has another digest; ProcessError."""

    def compare(first: str) -> None:
        if digest != first:
            raise ProcessError(
                f"process {jax.process_index()} has other {what} than the first one; give all "
                "machines the same"
            )

    first = broadcast_text(lambda: digest)
    raise_together(lambda: compare(first))


def all_processes_have(flag: bool) -> bool:
    """Whether it holds in every process."""
    return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


@contextlib.contextmanager
def exit_without_barrier() -> Iterator[None]:
    """Ends the process at once where it fails: it would wait for others that wait for it."""
    try:
        yield
    except SystemExit as end:
        # Stopped by a signal, they all stopped at the same step.
        if jax.process_count() == 1 or end.code in (None, 0) or end.code > 128:
            raise
        code = end.code
    except BaseException:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        code = 1
    else:
        return
    exit_immediately(code)
