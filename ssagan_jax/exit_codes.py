"""Turns errors that a user can fix or retry into a message and an exit code."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

from ssagan_jax.errors import InputError

# Places where nothing can be written: no room, no permission, a file where a folder should be.
_PLACE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)


_JAX_ERRORS = {"JaxRuntimeError", "XlaRuntimeError"}  # By name: jax takes seconds to import.


_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY")


_NO_MEMORY_ADVICE = (
    "set what comes first and still can be: a smaller config.train.batch_size (the pictures of a "
    "step over all devices; more devices do as well), a larger "
    "config.train.grad_accumulation_steps, config.train.remat=True, "
    "config.train.compute_dtype='bfloat16'. On a GPU JAX takes 75% of "
    "the memory at its start: alone there, XLA_CLIENT_MEM_FRACTION=0.95 gives it more; beside "
    "other processes XLA_PYTHON_CLIENT_PREALLOCATE=false, or a fraction for each, leaves them room"
)


# What a failing device, link or machine says; not what a driver says that does not fit.
_LOST_STATUS = re.compile("INTERNAL|UNAVAILABLE|ABORTED|DATA_LOSS|DEADLINE_EXCEEDED|UNKNOWN")


_LOST = re.compile(
    r"CUDA_ERROR_(ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS|HARDWARE_STACK_ERROR"
    r"|LAUNCH_FAILED|LAUNCH_TIMEOUT|ECC_UNCORRECTABLE|NVLINK_UNCORRECTABLE|DEVICE_UNAVAILABLE"
    r"|CONTAINED|EXTERNAL_DEVICE|UNKNOWN)|\bnccl|\bgloo\b|heartbeat|halted|preempted"
    r"|coordination ?service|socket closed|connection (reset|closed)|device (was )?lost",
    re.IGNORECASE,
)


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Prints the message of what a user can mend or wait out and exits; other faults pass.

    Exit codes: 2 where something has to change first, 75 (EX_TEMPFAIL) where a device
    or a machine failed and the same command goes on, 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr, flush=True)
        # Not sys.exit: a compilation that still runs in a thread crashes the interpreter's end.
        exit_immediately(130)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if is_disk_error(error):
            print(
                f"error: {_reason(error)}; free some space or choose another folder. What was "
                "written whole stays, and the same command goes on from there",
                file=sys.stderr,
            )
            sys.exit(2)
        if is_out_of_memory(error):
            print(f"error: out of memory ({_reason(error)}): {_NO_MEMORY_ADVICE}", file=sys.stderr)
            sys.exit(2)
        if is_lost_device(error):
            print(
                f"error: a device or a machine failed ({_reason(error)}); the same command goes on "
                "from the last checkpoint",
                file=sys.stderr,
                flush=True,
            )
            # Not sys.exit, which waits for the device, and for the other machines.
            exit_immediately(75)
        raise


def is_disk_error(error: BaseException) -> bool:
    """Whether something could not be written: for want of room, of permission, or of a folder."""
    if isinstance(error, OSError):
        return error.errno in _PLACE
    # What orbax and tensorflow raise for a full disk is no OSError, but says what it is.
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or a device had no memory left."""
    return isinstance(error, MemoryError) or (
        _is_of_jax(error) and _NO_MEMORY.search(str(error)) is not None
    )


def is_lost_device(error: BaseException) -> bool:
    """Whether a device, a link between devices or another machine of the run failed."""
    text = str(error)
    return bool(_is_of_jax(error) and _LOST_STATUS.match(text) and _LOST.search(text))


def _is_of_jax(error: BaseException) -> bool:
    return not _JAX_ERRORS.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300] or type(error).__name__


def exit_immediately(code: int) -> None:
    """Ends the process at once: no thread, device or other process is waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
