"""Runs a generator in a child process with limits, for a library that a file may crash or hang."""

import contextlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any

from ssagan_jax.errors import DataError, InputError
from ssagan_jax.untrusted import limits

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ssagan_jax.untrusted.limited_process import serve; serve()"
)
# Each thread and each of malloc's arenas would reserve addresses, which count as memory.
_FEW_ADDRESSES = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
_FEW_ADDRESSES |= {"ARROW_DEFAULT_MEMORY_POOL": "system"}
_idle: list[subprocess.Popen[bytes]] = []  # Ready for another generator.


def iterate_limited(
    generator: Callable[..., Iterator[Any]], *arguments: Any, classes: Collection[type] = ()
) -> Iterator[Any]:
    """Yields what a generator yields, from a child process with the limits `CHILD_*`.

    The child is no sandbox: it may do whatever this process may. But a file that took it over
    could not make its answers run anything here.

    Args:
      generator: a function of a module; it, its arguments and its values are pickled.
      *arguments: to call it with.
      classes: those of its values, besides containers, texts, bytes and numbers.

    Raises:
      DataError: the generator raised InputError, of which this has the message; the child was
        stopped by a limit, crashed, or answered with anything else.
    """
    child = _idle.pop() if _idle else _start()
    is_idle = False
    try:
        with contextlib.suppress(BrokenPipeError):  # Its end is noticed below.
            child.stdin.write(pickle.dumps((generator, arguments)))
            child.stdin.flush()
        while True:
            try:
                kind, value = _Answers(child.stdout, classes).load()
            except Exception as error:  # Whatever half an answer or a hostile one raises.
                child.kill()  # Unless it has ended by itself.
                raise DataError(_reason(child.wait(), error)) from None
            if kind == "value":
                yield value
                continue
            is_idle = True
            if kind == "error":
                raise DataError(value)
            return
    finally:
        if is_idle:
            _idle.append(child)
        else:
            child.kill()
            child.wait()


class _Answers(pickle.Unpickler):
    """Calls nothing but a few classes."""

    def __init__(self, file: IO[bytes], classes: Collection[type]) -> None:
        super().__init__(file)
        self._classes = {(each.__module__, each.__qualname__): each for each in classes}

    def find_class(self, module: str, name: str) -> type:
        if found := self._classes.get((module, name)):
            return found
        raise pickle.UnpicklingError(f"{module}.{name}")


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | _FEW_ADDRESSES,
    )


def _reason(code: int, error: Exception) -> str:
    if code == -signal.SIGXCPU:
        return f"it takes more than {limits.CHILD_SECONDS} seconds to read"
    return f"the library that reads it crashed (exit code {code}: {error!s:.200})"


def serve() -> None:
    """What the child does: runs one generator after another, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What libraries print.
    with contextlib.suppress(ValueError, OSError):  # Not every system has it.
        resource.setrlimit(resource.RLIMIT_AS, (limits.CHILD_BYTES,) * 2)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            generator, arguments = pickle.load(sys.stdin.buffer)
            for kind, value in _results(generator, arguments):
                output.write(pickle.dumps((kind, value)))
                output.flush()
    os._exit(0)


def _results(generator: Callable[..., Iterator[Any]], arguments: Any) -> Iterator[tuple[str, Any]]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    end = int(usage.ru_utime + usage.ru_stime) + limits.CHILD_SECONDS
    try:
        _stop_at(end)
        for count, value in enumerate(generator(*arguments)):
            yield "value", value
            _stop_at(end + int((count + 1) * limits.CHILD_SECONDS_PER_VALUE))
    except InputError as error:
        yield "error", str(error)
    else:
        yield "end", None


def _stop_at(seconds: int) -> None:
    """Lets this process be killed after so many processor seconds."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))
