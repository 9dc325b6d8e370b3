"""What a pickle may refer to, and what it may use as keys."""

from collections.abc import Iterable
from typing import Any, NamedTuple

_SCALARS = (str, bytes, int, float, bool, type(None))


class PickleRefused(ValueError):
    """A pickle asks for something that is not allowed, is damaged, or exceeds a limit."""


class Name(NamedTuple):
    """A function or class that a pickle refers to; only its name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Pending:
    """An object that a later instruction completes, and replaces wherever it is."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.keys: list[int] = []  # in the memo


class Names:
    """What a pickle may refer to; here nothing. Methods raise PickleRefused for all other things.

    Attributes:
      results: types that the object may hold besides containers, text and numbers.
    """

    results: tuple[type, ...] = ()

    def check(self, name: Name) -> None:
        """Checks a name when it occurs."""
        raise PickleRefused(f"asks for {name}")

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """The result of a call of a name that was checked."""
        raise PickleRefused(f"calls {name}")

    def build(self, target: Any, state: Any) -> Any:
        """What replaces `target` once it has a state."""
        raise PickleRefused(f"sets the state of a {kind_of(target)}")

    def load_persistent(self, reference: Any) -> Any:
        """The object of a reference to something outside of the pickle."""
        raise PickleRefused("refers to objects outside of it")


def check_key(key: Any) -> None:
    """Raises PickleRefused for a key that is not a text or a number of at most 64 bits.

    Tuples would be hashed anew each time, and larger numbers can be chosen to have equal hashes.
    """
    if not isinstance(key, _SCALARS):
        raise PickleRefused(f"has a {kind_of(key)} as a key; only text and numbers are read")
    if type(key) is int and not -(2**63) <= key < 2**64:
        raise PickleRefused("has a key of more than 64 bits")


def check_keys(items: Iterable[Any]) -> Iterable[Any]:
    """The members of a set, after `check_key`."""
    for item in items:
        check_key(item)
    return items


def kind_of(value: Any) -> str:
    """The name of a value's type, for messages."""
    if isinstance(value, Name):
        return str(value)
    return value.kind if isinstance(value, Pending) else type(value).__name__
