"""Which pictures are held out: seeded, class by class, copies of a picture on one side."""

import collections
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.ingest.scan import ScanEntry


def split(entries: Sequence[ScanEntry], share: float, seed: int) -> list[str]:
    """ "train" or "validation" for each picture.

    Where the source holds some out itself, they stay the only ones. Else, within each class, the
    pictures whose names draw the lowest numbers are held out, so that a picture more or less moves
    few of the others. Classes get their shares of the whole by largest remainder.

    Args:
      entries: the usable pictures.
      share: of the pictures to hold out, between 0 and 1.
      seed: of the draw.

    Raises:
      DataError: fewer than two would be left to train on, or none to hold out.
    """
    held_out = {entry.digest for entry in entries if entry.split == "validation"}
    if not held_out or all(entry.digest in held_out for entry in entries):
        held_out = _drawn(entries, share, seed)
    sides = ["validation" if entry.digest in held_out else "train" for entry in entries]
    if sides.count("train") < 2 or "validation" not in sides:
        raise DataError(
            f"{len(entries)} usable pictures, {len({entry.digest for entry in entries})} of them "
            "different: it takes two to train on and another to hold out; add pictures"
        )
    return sides


def _drawn(entries: Sequence[ScanEntry], share: float, seed: int) -> set[bytes]:
    """Digests of the pictures to hold out."""
    groups: dict[str, list[ScanEntry]] = collections.defaultdict(list)
    for entry in _first_copies(entries):
        groups[entry.label].append(entry)
    held_out = set()
    for label, quota in _quotas({k: len(v) for k, v in groups.items()}, share, seed).items():
        ranked = sorted(groups[label], key=lambda entry: _draw(entry.name, seed))
        held_out |= {entry.digest for entry in ranked[:quota]}
    return held_out


def _first_copies(entries: Iterable[ScanEntry]) -> Iterable[ScanEntry]:
    first: dict[bytes, ScanEntry] = {}
    for entry in entries:
        first.setdefault(entry.digest, entry)
    return first.values()


def _quotas(sizes: dict[str, int], share: float, seed: int) -> dict[str, int]:
    """How many of each class are held out; at least one in all, and not all but one."""
    total = max(1, sum(sizes.values()))
    seats = max(1, min(total - 2, round(share * total)))
    quotas = {label: seats * size // total for label, size in sizes.items()}
    by_remainder = sorted(
        sizes, key=lambda label: (-(seats * sizes[label] % total), _draw(label, seed))
    )
    for label in by_remainder[: seats - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _draw(name: str, seed: int) -> bytes:
    return blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
