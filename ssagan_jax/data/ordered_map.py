"""Maps a function over an iterable on all cores, in order, with few results in memory."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")
_QUEUED = 2  # Per worker: enough that none waits for the consumer.


class OrderedMap(Protocol):
    """`ordered_map`, or something that does the same elsewhere."""

    def __call__(
        self, function: Callable[[Input], Output], items: Iterable[Input], /
    ) -> Iterator[tuple[Input, Output]]:
        """Yields each item with the function's result, in order."""


def ordered_map(
    function: Callable[[Input], Output], items: Iterable[Input]
) -> Iterator[tuple[Input, Output]]:
    """Yields each item with the function's result; exceptions of the function are raised here.

    Uses threads, since Pillow and hashlib release Python's lock. Items are consumed only as far
    ahead as the threads need.
    """
    workers = len(os.sched_getaffinity(0))
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > _QUEUED * workers:
                    done, result = waiting.popleft()
                    yield done, result.result()
            while waiting:
                done, result = waiting.popleft()
                yield done, result.result()
        finally:  # Also if the caller stops early.
            for _, result in waiting:
                result.cancel()
