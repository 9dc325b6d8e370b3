"""One function over many things on all cores, in order, holding few of them at a time."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")
_AHEAD = 2  # Per worker: enough that none waits for the one who takes the results.


def ordered_map(
    function: Callable[[Given], Made], items: Iterable[Given], workers: int | None = None
) -> Iterator[tuple[Given, Made]]:
    """Yields each item with the function's result; what the function raises is raised here.

    Threads serve, since Pillow and hashlib do their work outside of Python's lock.

    Args:
      function: computes one result.
      items: read as far as the workers need.
      workers: threads, as many as cores where None.
    """
    workers = workers or len(os.sched_getaffinity(0))
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > _AHEAD * workers:
                    done, result = waiting.popleft()
                    yield done, result.result()
            while waiting:
                done, result = waiting.popleft()
                yield done, result.result()
        finally:  # Also where the caller stops early.
            for _, result in waiting:
                result.cancel()
