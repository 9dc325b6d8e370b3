"""The state of a pickle that runs, and what its instructions do to it."""

import codecs
import time
from typing import Any

from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.pickle_names import (
    Name,
    Names,
    Pending,
    PickleRefused,
    check_key,
    check_keys,
    kind_of,
)


class Machine:
    """Stack, memo and position of a pickle that runs; its methods do what instructions ask."""

    def __init__(self, data: Any, names: Names, encoding: str, start: int) -> None:
        self.data = data
        self.names = names
        self.encoding = encoding
        self.position = start
        self.end = min(len(data), start + limits.PICKLE_BYTES)
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.name_count = self.container_count = 0
        self.last_time = time.thread_time() + limits.PICKLE_SECONDS

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start, stop = self.position, self.position + count
        if not 0 <= count <= self.end - start:
            raise PickleRefused(f"ends inside of an item of {count} bytes")
        self.position = stop
        return self.data[start:stop]

    def unsigned(self, size: int) -> int:
        """The number in the next bytes, little-endian."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> bytes:
        """The bytes up to the end of the line."""
        stop = self.data.find(b"\n", self.position, self.end)
        if stop < 0:
            raise PickleRefused("ends inside of a line")
        found = self.data[self.position : stop]
        self.position = stop + 1
        return found

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def new(self, container: Any) -> None:
        """Pushes a new container."""
        self.container_count += 1
        if self.container_count > limits.PICKLE_CONTAINERS:
            raise PickleRefused(f"has more than {limits.PICKLE_CONTAINERS:,} containers")
        self.stack.append(container)

    def pop_mark(self) -> list[Any]:
        """The items above the last mark."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def text_of_python_2(self, raw: bytes) -> str | bytes:
        """An 8-bit string of Python 2."""
        return raw if self.encoding == "bytes" else raw.decode(self.encoding)

    def put(self, key: int) -> None:
        """Remembers the top of the stack."""
        value = self.stack[-1]
        if type(value) is Pending:
            value.keys.append(key)
        self.memo[key] = value

    def name(self, module: Any, name: Any) -> None:
        """Pushes a name that is allowed."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleRefused("has a name that is not text")
        if len(module) + len(name) > 1000:
            raise PickleRefused("has a name of more than 1000 letters")
        self.name_count += 1
        if self.name_count > limits.PICKLE_NAMES:
            raise PickleRefused(f"has more than {limits.PICKLE_NAMES:,} names of functions")
        found = Name(module, name)
        self.names.check(found)
        self.push(found)

    def name_on_stack(self) -> None:
        """`name` of the two topmost values."""
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def reduce(self) -> None:
        """Calls the function below the top with the arguments on top."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise PickleRefused(f"calls a {kind_of(function)}")
        self.push(self.names.call(function, arguments))

    def build(self) -> None:
        """Gives the value below the top the state on top."""
        state, target = self.stack.pop(), self.stack.pop()
        built = self.names.build(target, state)
        if type(target) is Pending:
            for key in target.keys:
                self.memo[key] = built
        self.push(built)

    def append(self, items: list[Any]) -> None:
        """Appends to the list on top."""
        if type(self.stack[-1]) is not list:
            raise PickleRefused(f"appends to a {kind_of(self.stack[-1])}")
        self.stack[-1].extend(items)

    def append_last(self) -> None:
        """Appends the top to the list below it."""
        item = self.stack.pop()
        self.append([item])

    def set_item(self) -> None:
        """Puts the top under the key below it into the dictionary below both."""
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_items(self, items: list[Any]) -> None:
        """Puts keys and values into the dictionary on top."""
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise PickleRefused(f"sets items of a {kind_of(target)}")
        for index in range(0, len(items), 2):
            check_key(items[index])
            target[items[index]] = items[index + 1]

    def dictionary(self) -> None:
        """Pushes a dictionary of the items above the last mark."""
        items = self.pop_mark()
        self.new({})
        self.set_items(items)

    def add_items(self) -> None:
        """Adds the items above the last mark to the set below it."""
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise PickleRefused(f"adds to a {kind_of(self.stack[-1])}")
        self.stack[-1].update(check_keys(items))

    def tuple_of(self, count: int) -> None:
        """Replaces so many values on top by a tuple of them."""
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise PickleRefused("takes more items than there are")
        del self.stack[-count:]
        self.new(items)

    def mark(self) -> None:
        """Begins a new part of the stack."""
        self.marked.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        """Drops the top of the stack, or the last mark."""
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def decimal(self) -> None:
        """Pushes a number written in digits."""
        line = self.line().removesuffix(b"L")
        if len(line) > limits.PICKLE_DIGITS:
            raise PickleRefused(f"has a number of {len(line)} digits")
        boolean = {b"00": False, b"01": True}.get(line)
        self.push(int(line) if boolean is None else boolean)

    def long(self, size: int) -> None:
        """Pushes a number of so many bytes."""
        # A byte holds 2.4 digits.
        if size > limits.PICKLE_DIGITS // 3:
            raise PickleRefused(f"has a number of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def quoted(self) -> None:
        """Pushes a string of Python 2 between quotes."""
        raw = self.line()
        if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in b"'\"":
            raise PickleRefused("has a text without quotes")
        self.push(self.text_of_python_2(codecs.escape_decode(raw[1:-1])[0]))
