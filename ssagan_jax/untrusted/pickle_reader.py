"""Runs the instructions of a pickle, and builds nothing but containers, text and numbers.

A pickle is a program that may refer to any function by its name and call it. Here, names stay
names: a `Names` object decides what a call of one means, and all calls of others are refused.
Instructions, time, depth and repetitions of what was built are bounded (`limits`). The instructions
are those that Python's pickletools describes.
"""

import mmap
import struct
import time
from collections.abc import Callable
from typing import Any

from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.pickle_machine import Machine
from ssagan_jax.untrusted.pickle_names import Names, PickleRefused, check_keys
from ssagan_jax.untrusted.repetition import check_repetition

_STOP, _BININT1, _BININT2, _BINGET = b".KMh"
_BETWEEN_LOOKS = 4096  # instructions between two looks at the clock


def run_pickle(
    data: bytes | mmap.mmap, names: Names, encoding: str = "bytes", start: int = 0
) -> tuple[Any, int]:
    """Runs a pickle of any protocol.

    Args:
      data: holds the pickle.
      names: what it may refer to.
      encoding: how Python 2's 8-bit strings are decoded; "bytes" leaves them bytes.
      start: of the pickle in `data`.

    Returns:
      The object, and the position after the pickle.

    Raises:
      PickleRefused: it asks for something else, is damaged, or exceeds a limit.
    """
    machine = Machine(data, names, encoding, start)
    try:
        result = _run(machine)
    except PickleRefused:
        raise
    # Damage makes the stack, the memo or a text end too soon.
    except (LookupError, ValueError, TypeError, struct.error, OverflowError) as error:
        raise PickleRefused(f"is damaged at byte {machine.position} ({error})") from None
    try:
        check_repetition(result, names.results)
    except ValueError as error:
        raise PickleRefused(str(error)) from None
    return result, machine.position


def _run(machine: Machine) -> Any:
    """Runs to the end; returns the result."""
    steps = range(0, limits.PICKLE_STEPS, _BETWEEN_LOOKS)
    for _ in steps:
        if time.thread_time() > machine.last_time:
            raise PickleRefused(f"takes more than {limits.PICKLE_SECONDS} seconds to read")
        if _run_some(machine, _BETWEEN_LOOKS):
            return machine.stack.pop()
    raise PickleRefused(f"has more than {limits.PICKLE_STEPS:,} instructions")


def _run_some(machine: Machine, steps: int) -> bool:
    """Runs so many instructions; returns whether the pickle has ended."""
    data, memo = machine.data, machine.memo
    for _ in range(steps):
        at = machine.position
        code = data[at]
        # The most frequent ones, of small numbers and the memo, are not worth a call.
        if code == _BININT1:
            machine.stack.append(data[at + 1])
            machine.position = at + 2
        elif code == _BININT2:
            machine.stack.append(data[at + 1] + 256 * data[at + 2])
            machine.position = at + 3
        elif code == _BINGET:
            machine.stack.append(memo[data[at + 1]])
            machine.position = at + 2
        else:
            machine.position = at + 1
            if code == _STOP:
                return True
            if code not in _OPCODES:
                raise PickleRefused(f"has the unknown instruction {code:#04x}")
            _OPCODES[code](machine)
    return False


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _refuse(what: str) -> Callable[[Machine], None]:
    def refuse(machine: Machine) -> None:
        raise PickleRefused(what)

    return refuse


def _get(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(m.memo[m.unsigned(size)])


def _put(size: int) -> Callable[[Machine], None]:
    return lambda m: m.put(m.unsigned(size))


def _sized(size: int, decode: Callable[[bytes], Any]) -> Callable[[Machine], None]:
    """Pushes a text or bytes, whose length is written before in so many bytes."""
    return lambda m: m.push(decode(m.take(m.unsigned(size))))


def _python_2(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(m.text_of_python_2(m.take(m.unsigned(size))))


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.push(value)


_REFUSED = "makes objects, which are not plain data"
_OPCODES: dict[int, Callable[[Machine], None]] = {
    ord(code): run
    for code, run in {
        # Numbers and constants.
        "I": Machine.decimal,
        "L": Machine.decimal,
        "J": lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
        "K": lambda m: m.push(m.unsigned(1)),
        "M": lambda m: m.push(m.unsigned(2)),
        "\x8a": lambda m: m.long(m.unsigned(1)),
        "\x8b": lambda m: m.long(m.unsigned(4)),
        "F": lambda m: m.push(float(m.line())),
        "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        "N": _constant(None),
        "\x88": _constant(True),
        "\x89": _constant(False),
        # Text and bytes.
        "S": Machine.quoted,
        "T": _python_2(4),
        "U": _python_2(1),
        "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        "X": _sized(4, _text),
        "\x8c": _sized(1, _text),
        "\x8d": _sized(8, _text),
        "B": _sized(4, bytes),
        "C": _sized(1, bytes),
        "\x8e": _sized(8, bytes),
        "\x96": _sized(8, bytes),
        # Containers.
        "]": lambda m: m.new([]),
        "}": lambda m: m.new({}),
        ")": lambda m: m.new(()),
        "\x8f": lambda m: m.new(set()),
        "l": lambda m: m.new(m.pop_mark()),
        "d": Machine.dictionary,
        "t": lambda m: m.new(tuple(m.pop_mark())),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "\x91": lambda m: m.new(frozenset(check_keys(m.pop_mark()))),
        "a": Machine.append_last,
        "e": lambda m: m.append(m.pop_mark()),
        "s": Machine.set_item,
        "u": lambda m: m.set_items(m.pop_mark()),
        "\x90": Machine.add_items,
        # Stack and memo.
        "(": Machine.mark,
        "0": Machine.pop,
        "1": lambda m: m.pop_mark() and None,
        "2": lambda m: m.push(m.stack[-1]),
        "g": lambda m: m.push(m.memo[int(m.line()[:20])]),
        "h": _get(1),
        "j": _get(4),
        "p": lambda m: m.put(int(m.line()[:20])),
        "q": _put(1),
        "r": _put(4),
        "\x94": lambda m: m.put(len(m.memo)),
        "\x80": lambda m: m.take(1) and None,
        "\x95": lambda m: m.take(8) and None,
        # Names and objects.
        "c": lambda m: m.name(_text(m.line()), _text(m.line())),
        "\x93": Machine.name_on_stack,
        "R": Machine.reduce,
        "b": Machine.build,
        "Q": lambda m: m.push(m.names.load_persistent(m.stack.pop())),
        "P": _refuse("refers to objects outside of it"),
        **dict.fromkeys("io\x81\x92\x82\x83\x84\x97\x98", _refuse(_REFUSED)),
    }.items()
}
