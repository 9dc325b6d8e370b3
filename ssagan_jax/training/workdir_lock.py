"""The lock of a work folder: one training at a time, from any machine.

The holder keeps the lock file open under `flock`, writes there who it is, and touches the file
every few seconds. The system releases `flock` when a process ends, however it ends. Where a network
file system has no `flock`, or keeps it to each machine, the touches show that the holder is alive.
"""

import contextlib
import datetime
import errno
import fcntl
import io
import json
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

from ssagan_jax.errors import escape_terminal
from ssagan_jax.workdir import WorkdirError

_NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_MAX_BYTES = 4096


class WorkdirLock:
    """The lock file of a work folder, held from `acquire` to `release`."""

    def __init__(self, path: Path, heartbeat: float = 10.0) -> None:
        """Does not touch the file yet.

        Args:
          path: the lock file.
          heartbeat: seconds between touches. A holder on another machine is gone after three
            without a touch. While `flock` says that it is there, as NFS does for a lost machine
            until its lease ends, it gets fifteen.
        """
        self._path = path
        self._heartbeat = heartbeat
        self._file: io.FileIO | None = None
        self._content = b""
        self._released = threading.Event()

    def acquire(self) -> None:
        """Takes the lock, also that of a process that is gone; makes the folder if it is missing.

        Waits for a sign of life from a holder on another machine. Does nothing if this object holds
        the lock already.

        Raises:
          WorkdirError: names the process that holds the lock, or the file cannot be a lock.
        """
        if self._file:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        first, start = None, time.monotonic()
        while True:
            file, is_new = _open(self._path)
            is_locked = _flock(file)
            content, status = os.pread(file.fileno(), _MAX_BYTES, 0), os.fstat(file.fileno())
            if not _is_at(self._path, status):
                continue  # Its holder has just removed it.
            holder, beats = _parse(content), (time.monotonic() - start) / self._heartbeat
            is_here = holder.get("host") == socket.gethostname()
            if is_locked is None:
                is_free = is_new or (is_here and not _is_alive(holder.get("pid"))) or beats > 3
            else:
                is_free = is_locked and (is_here or not content or beats > 3)
            if is_free:
                return self._take(file)
            seen = content, status.st_mtime_ns
            has_moved = first is not None and seen != first
            if has_moved or (is_locked is False and (is_here or beats > 15)):
                raise WorkdirError(_held(self._path, content))
            if first is None:
                first = seen
                print(f"{_held(self._path, content)}; waiting for a sign of life", flush=True)
            file.close()
            time.sleep(min(1.0, self._heartbeat / 2))

    def check(self) -> None:
        """Raises WorkdirError if another training took the lock over.

        That happens to a process that was suspended, on a file system without `flock`.
        """
        with contextlib.suppress(OSError):  # Whoever deletes the file knows why.
            content = self._path.read_bytes()
            if self._file and content != self._content:
                raise WorkdirError(_held(self._path, content))

    def release(self) -> None:
        """Removes the lock file; does nothing if this object does not hold it."""
        if not self._file:
            return
        self._released.set()
        with contextlib.suppress(OSError):
            if self._path.read_bytes() == self._content:
                self._path.unlink()
        self._file.close()
        self._file = None

    def _take(self, file: io.FileIO) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        record = {"host": socket.gethostname(), "pid": os.getpid(), "since": now}
        self._file, self._content = file, json.dumps(record).encode()
        file.truncate(0)
        os.pwrite(file.fileno(), self._content, 0)
        os.fsync(file.fileno())
        self._released.clear()
        threading.Thread(target=self._beat, args=(file,), daemon=True).start()

    def _beat(self, file: io.FileIO) -> None:
        while not self._released.wait(self._heartbeat):
            with contextlib.suppress(OSError, ValueError):  # ValueError: closed just now.
                os.utime(file.fileno())


def _open(path: Path) -> tuple[io.FileIO, bool]:
    """The lock file, and whether this call made it; raises WorkdirError if it is no plain file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileExistsError):
        return io.FileIO(os.open(path, flags | os.O_EXCL, 0o666), "r+"), True
    try:
        file = io.FileIO(os.open(path, flags, 0o666), "r+")
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
    else:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file, False
    raise WorkdirError(f"{path}: is not a plain file; delete it")


def _flock(file: io.FileIO) -> bool | None:
    """Whether this process now holds `flock`; None if the file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_at(path: Path, status: os.stat_result) -> bool:
    """Whether an open file is still the one of that name."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), status)
    return False


def _is_alive(pid: Any) -> bool:
    """Whether another process of this machine has that number."""
    if not isinstance(pid, int) or pid <= 0 or pid == os.getpid():
        return False
    with contextlib.suppress(PermissionError):  # Another user's.
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def _parse(content: bytes) -> dict[str, Any]:
    """The holder that a lock file names; {} if it names none."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _held(path: Path, content: bytes) -> str:
    holder = {key: escape_terminal(str(value)) for key, value in _parse(content).items()}
    process, host, since = (holder.get(key, "unknown") for key in ("pid", "host", "since"))
    return (
        f"--workdir={path.parent}: another training uses this folder (process {process} on {host}, "
        f"since {since}); wait until it has ended, stop it, or choose another --workdir"
    )
