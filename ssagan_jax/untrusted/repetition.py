"""Finds data that is small in memory, and endless to whoever reads it."""

from typing import Any

from ssagan_jax.untrusted import limits

_CONTAINERS = (list, tuple, dict, set, frozenset)
_SCALARS = frozenset((str, bytes, int, float, bool, type(None)))


def check_repetition(content: Any, results: tuple[type, ...] = ()) -> None:
    """Checks containers that may occur in one another repeatedly, as a pickle can build them.

    Ten lists, each with the one before ten times, are 10 billion values to a reader that follows
    them. Each container is visited once here.

    Args:
      content: of containers, text, numbers and `results`.
      results: further types of values that are allowed.

    Raises:
      ValueError: it has another value, is nested deeper than PICKLE_DEPTH, contains itself, or,
        written out, has more than PICKLE_NODES values and PICKLE_RATIO times those in memory.
    """
    content = [content]
    done: dict[int, tuple[int, int]] = {}  # By id: values written out, and depth.
    path: set[int] = set()
    stored = 0
    pending = [(content, False)]
    while pending:
        container, is_complete = pending.pop()
        key = id(container)
        values = container.values() if type(container) is dict else container
        inner = [each for each in values if type(each) not in _SCALARS]
        for each in inner if is_complete else ():
            if type(each) not in _CONTAINERS and not isinstance(each, results):
                raise ValueError(f"holds {each!s:.80}, which is no plain data")
        inner = [each for each in inner if type(each) in _CONTAINERS]
        if is_complete:
            path.remove(key)
            inside = [done[id(each)] for each in inner]
            size = 1 + len(container) + sum(size for size, _ in inside)
            done[key] = size, 1 + max((depth for _, depth in inside), default=0)
            stored += 1 + len(container)
        elif key not in done:
            if key in path:
                raise ValueError("has a container that contains itself")
            if len(path) >= limits.PICKLE_DEPTH:
                raise ValueError(f"is nested deeper than {limits.PICKLE_DEPTH}")
            path.add(key)
            pending.append((container, True))
            pending.extend((each, False) for each in inner)
    size, depth = done[id(content)]
    most = max(limits.PICKLE_NODES, limits.PICKLE_RATIO * stored)
    if depth > limits.PICKLE_DEPTH:
        raise ValueError(f"is nested deeper than {limits.PICKLE_DEPTH}")
    if size > most:
        raise ValueError(f"has containers that repeat to more than {most:,} values")
