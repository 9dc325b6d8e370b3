"""Faults of input: one clear message and exit code 2 instead of a traceback."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

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


class InputError(ValueError):
    """What a user gave cannot be used; the message says what, why, and what to do."""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Prints the message of what a user can mend and exits with 2; other faults pass."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr, flush=True)
        # Not sys.exit: a compilation that still runs in a thread crashes the interpreter's end.
        sys.stdout.flush()
        os._exit(130)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _PLACE:
            raise
        print(
            f"error: {error}; free some space or choose another folder. What was written whole "
            "stays, and the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(2)
