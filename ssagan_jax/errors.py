"""Errors that a user can fix or retry: a message and an exit code instead of a traceback."""

import contextlib
import errno
import os
import re
import select
import sys
from collections.abc import Iterator, Sequence

# A folder cannot be written: no space, no permission, or a file in its place.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (
    *FULL_DISK,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
_JAX_ERRORS = {"JaxRuntimeError", "XlaRuntimeError"}  # By name: importing jax takes seconds.

_OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY")
_OUT_OF_MEMORY_ADVICE = (
    "try in this order: a smaller config.train.batch_size (images per step over all devices) or "
    "more devices, a larger config.train.grad_accumulation_steps, config.train.remat=True, "
    "config.train.compute_dtype='bfloat16'. On a GPU, JAX reserves 75% of the memory at its start: "
    "if no other process uses the GPU, set XLA_CLIENT_MEM_FRACTION=0.95, otherwise "
    "XLA_PYTHON_CLIENT_PREALLOCATE=false"
)

# Messages of a device, link or machine that fails, but not of a driver that is incompatible.
_LOST_STATUS = re.compile("INTERNAL|UNAVAILABLE|ABORTED|DATA_LOSS|DEADLINE_EXCEEDED|UNKNOWN")
_LOST = re.compile(
    r"CUDA_ERROR_(ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS|HARDWARE_STACK_ERROR"
    r"|LAUNCH_FAILED|LAUNCH_TIMEOUT|ECC_UNCORRECTABLE|NVLINK_UNCORRECTABLE|DEVICE_UNAVAILABLE"
    r"|CONTAINED|EXTERNAL_DEVICE|UNKNOWN)|\bnccl|\bgloo\b|heartbeat|halted|preempted"
    r"|coordination ?service|socket closed|connection (reset|closed)|device (was )?lost",
    re.IGNORECASE,
)


class InputError(ValueError):
    """Invalid input; the message names it, says what is wrong and what to do."""


class TrainingError(InputError):
    """Training cannot continue; all checkpoints are intact."""


class DataError(InputError):
    """A data set is missing, damaged or laid out differently than expected."""


class DamagedFileError(InputError):
    """A file is damaged, of another kind than its reader expects, or beyond a limit."""


def escape_terminal(text: str) -> str:
    """Escapes whatever in a text could move a terminal's cursor or change its colours."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode()
        for letter in text
    )


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turns user-fixable errors into a message and an exit code; other errors pass.

    Exit codes: 2 if the user has to change something, 75 (EX_TEMPFAIL) if a device or machine
    failed and the same command resumes the run, 130 after Ctrl-C, 141 without a message if nobody
    reads the output any more.
    """
    with contextlib.suppress(AttributeError):  # Not of a plain text stream.
        sys.stdout.reconfigure(errors="backslashreplace")  # File names need not be valid text.
    try:
        try:
            yield
        except SystemExit:  # Of --help.
            _flush_output()
            raise
        _flush_output()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        # Not sys.exit: a thread that is still compiling would crash the interpreter's shutdown.
        exit_immediately(130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _drop_unread_output():
            exit_immediately(141)
        message = _user_message(error)
        if message is None:
            raise
        # Messages quote names and contents of files.
        lines = map(escape_terminal, message.split("\n"))
        print("error:", "\n".join(lines), file=sys.stderr, flush=True)
        if is_lost_device(error):
            # Not sys.exit, which would wait for the device and for other machines.
            exit_immediately(75)
        sys.exit(2)


def _flush_output() -> None:
    """Raises BrokenPipeError now, and not in the interpreter's shutdown."""
    if sys.stdout:  # None if it was closed before the start.
        sys.stdout.flush()


def _drop_unread_output() -> bool:
    """Sends output that nobody reads to the null device; returns whether there is such output."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    closed = [fd for fd, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]
    for descriptor in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return bool(closed)


def _user_message(error: Exception) -> str | None:
    """What happened and what to do; None if the user cannot fix it."""
    if isinstance(error, InputError):
        return str(error)
    first_line = str(error).partition("\n")[0][:300] or type(error).__name__
    if is_disk_error(error):
        return (
            f"{first_line}; free some space or choose another folder, and run the same command "
            "again. Complete checkpoints are kept"
        )
    if _is_os_error(error, _TOO_MANY_FILES):
        return f"{first_line}; allow the process more open files (ulimit -n 1024), and try again"
    if "No usable temporary directory" in first_line:
        return f"{first_line}; set TMPDIR to a folder that can be written, and try again"
    if first_line == "Could not determine home directory.":
        return f"{first_line} Set HOME to a folder that can be written, and try again"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{error.object[:300]!a}: a name that is not UTF-8 cannot be used here; rename it"
    if is_out_of_memory(error):
        return f"out of memory ({first_line}): {_OUT_OF_MEMORY_ADVICE}"
    if is_lost_device(error):
        return (
            f"a device or a machine failed ({first_line}); run the same command to resume from the "
            "last checkpoint"
        )
    return None


def is_disk_error(error: BaseException) -> bool:
    """Whether writing failed for lack of space, permission or a folder."""
    # Of the others, which only have texts, permission is no matter of writing.
    numbers = _DISK_ERRORS if isinstance(error, OSError) else (errno.ENOSPC, errno.EDQUOT)
    return _is_os_error(error, numbers)


def _is_os_error(error: BaseException, numbers: Sequence[int]) -> bool:
    if isinstance(error, OSError):
        return error.errno in numbers
    # Orbax and TensorFlow raise other types, with the same text.
    return any(os.strerror(number) in str(error) for number in numbers)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or a device ran out of memory."""
    return isinstance(error, MemoryError) or (
        _is_jax_error(error) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def is_lost_device(error: BaseException) -> bool:
    """Whether a device, a link between devices or another machine of the run failed."""
    text = str(error)
    return bool(_is_jax_error(error) and _LOST_STATUS.match(text) and _LOST.search(text))


def _is_jax_error(error: BaseException) -> bool:
    return not _JAX_ERRORS.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def exit_immediately(code: int) -> None:
    """Ends the process without waiting for threads, devices or other processes."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):  # Its reader is gone.
            stream.flush()
    os._exit(code)
