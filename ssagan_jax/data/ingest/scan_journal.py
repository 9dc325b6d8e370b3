"""A journal of inspected pictures, so that an interrupted scan does not decode them again."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from ssagan_jax.atomic_files import name_full_disk
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.ordered_map import OrderedMap
from ssagan_jax.untrusted.tar_members import FileSlice

Result = TypeVar("Result")
_FLUSH_EVERY = 64


def map_with_journal(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    path: Path,
    *,
    to_json: Callable[[Result], list],
    from_json: Callable[[list], Result],
    is_final: Callable[[Result], bool],
    salt: str,
    run: OrderedMap,
) -> Iterator[tuple[Item, Result]]:
    """Like `run`, but takes results from the journal as far as it fits the items.

    Each line of the journal is a fingerprint of an item (names, sentences, and size and time of its
    file) and the result as JSON. From the first line on that does not fit, it is written anew.

    Args:
      function: from an item to its result.
      items: in a fixed order.
      path: of the journal; it is made if it is missing.
      to_json: from a result to a list that JSON can hold.
      from_json: its inverse.
      is_final: whether the same item always gives this result; others are not taken over.
      salt: whatever else the results depend on.
      run: applies a function to the items that are not in the journal.
    """
    items = iter(items)
    with name_full_disk(path), open(path, "a+b") as journal:
        journal.seek(0)
        end = 0
        for line in journal:
            item = next(items, None)
            if item is None:
                break
            try:
                fingerprint, result = json.loads(line)
                fits = line.endswith(b"\n") and fingerprint == _fingerprint(item, salt)
            except ValueError:  # A line that was cut off.
                fits = False
            if not fits:
                items = itertools.chain([item], items)
                break
            end += len(line)
            result = from_json(result)
            yield item, result if is_final(result) else function(item)
        journal.truncate(end)
        pairs = run(lambda item: (_fingerprint(item, salt), function(item)), items)
        for count, (item, (fingerprint, result)) in enumerate(pairs):
            journal.write(json.dumps([fingerprint, to_json(result)]).encode() + b"\n")
            if count % _FLUSH_EVERY == 0:
                journal.flush()
            yield item, result


def _fingerprint(item: Item, salt: str) -> str:
    picture = item.picture
    parts = [salt, item.name, item.captions, item.label, item.box, item.error]
    digest = blake2b(digest_size=12)
    if isinstance(picture, FileSlice):
        parts += [picture.offset, picture.size]
        picture = picture.path
    if isinstance(picture, Path):
        try:
            status = os.stat(picture)
            parts += [str(picture), status.st_size, status.st_mtime_ns]
        except OSError as error:
            parts.append(error.errno)
    elif picture is not None:
        digest.update(picture)
    digest.update(repr(parts).encode(errors="backslashreplace"))
    return digest.hexdigest()
