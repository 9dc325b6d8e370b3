"""Generators in a child process: values, errors, crashes and limits."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from ssagan_jax.errors import DataError
from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.limited_process import _idle, iterate_limited


def count(end, error=None):
    yield from range(end)
    if error:
        raise error


def crash(signal_number):
    yield 1
    print("a library prints")
    os.kill(os.getpid(), signal_number)


def allocate(size):
    try:
        yield len(bytes(size))
    except MemoryError:
        yield "refused"


def identify():
    yield os.getpid()


class Call:
    """A value whose pickle calls a function where it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def answer(function, argument):
    yield Call(function, argument)


def test_an_answer_calls_nothing_here(tmp_path):
    for function, argument in ((os.mkdir, str(tmp_path / "ran")), (sys.exit, 3)):
        with pytest.raises(DataError, match=f"crashed .*{function.__name__}"):
            next(iterate_limited(answer, function, argument, classes=(Path,)))
    assert not list(tmp_path.iterdir())
    (path,) = iterate_limited(answer, type(tmp_path), "a", classes=(type(tmp_path),))
    assert path == Path("a")


def test_values_arrive_in_order_and_the_process_is_used_again():
    assert list(iterate_limited(count, 3)) == [0, 1, 2]
    (first,), (second,) = iterate_limited(identify), iterate_limited(identify)
    assert first == second != os.getpid()
    one, two = iterate_limited(count, 2), iterate_limited(count, 2)
    assert [next(one), next(two), *one, *two] == [0, 0, 1, 1]


def test_its_errors_are_raised_here():
    values = iterate_limited(count, 2, DataError("x.parquet: no picture"))
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(DataError, match=re.escape("x.parquet: no picture")):
        next(values)


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGSEGV, "crashed .exit code -11"), (signal.SIGXCPU, "more than 60 seconds")],
)
def test_a_crash_and_a_hang_are_errors(number, message):
    values = iterate_limited(crash, number)
    assert next(values) == 1
    with pytest.raises(DataError, match=message):
        next(values)
    assert list(iterate_limited(count, 1)) == [0]


def test_memory_and_processor_time_are_bounded():
    assert list(iterate_limited(allocate, 2 * limits.CHILD_BYTES)) == ["refused"]
    (pid,) = iterate_limited(identify)
    with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
        rows = dict(line.split("  ", 1) for line in file)
    soft = int(rows["Max cpu time"].split()[0])
    assert limits.CHILD_SECONDS < soft <= limits.CHILD_SECONDS + 60


def test_who_stops_early_leaves_no_process():
    values = iterate_limited(count, 10**9)
    next(values)
    idle = list(_idle)
    values.close()
    assert _idle == idle
