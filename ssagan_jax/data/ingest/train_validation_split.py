"""Chooses the validation pictures: seeded, stratified by class, duplicates in one split."""

import collections
from collections.abc import Sequence
from hashlib import blake2b

from ssagan_jax.data.ingest.scan import ScanEntry
from ssagan_jax.errors import DataError


def assign_splits(entries: Sequence[ScanEntry], fraction: float, seed: int) -> list[str]:
    """ "train" or "validation" for each picture.

    If the source itself holds pictures out, exactly those are held out. Otherwise, within each
    class, those whose names have the smallest hashes are, so that adding or removing a picture
    moves few others. Classes are held out in proportion, rounded by largest remainder.

    Args:
      entries: the usable pictures.
      fraction: of the pictures to hold out, between 0 and 1.
      seed: of the hash.

    Returns:
      A split for each entry; all "train" if the pictures are too few, for `check_splits` to raise.
    """
    held_out = {entry.digest for entry in entries if entry.split == "validation"}
    if not held_out or all(entry.digest in held_out for entry in entries):
        held_out = _draw_held_out(entries, fraction, seed)
    splits = ["validation" if entry.digest in held_out else "train" for entry in entries]
    return splits if splits.count("train") >= 2 else ["train"] * len(entries)


def check_splits(entries: Sequence[ScanEntry], splits: Sequence[str]) -> None:
    """Raises DataError if `assign_splits` could not hold out a picture and keep two others."""
    if "validation" not in splits:
        raise DataError(
            f"{len(entries)} usable pictures, {len({entry.digest for entry in entries})} of them "
            "different: at least two are needed to train on and another to hold out; add pictures"
        )


def _draw_held_out(entries: Sequence[ScanEntry], fraction: float, seed: int) -> set[bytes]:
    """Digests of the pictures to hold out."""
    groups: dict[str, list[ScanEntry]] = collections.defaultdict(list)
    # Of the copies of a picture, the first one.
    for entry in {entry.digest: entry for entry in reversed(entries)}.values():
        groups[entry.label].append(entry)
    held_out = set()
    for label, quota in _quotas({k: len(v) for k, v in groups.items()}, fraction, seed).items():
        ranked = sorted(groups[label], key=lambda entry: _hash(entry.name, seed))
        held_out |= {entry.digest for entry in ranked[:quota]}
    return held_out


def _quotas(sizes: dict[str, int], fraction: float, seed: int) -> dict[str, int]:
    """How many of each class to hold out: at least one in total, and at least two left."""
    total = max(1, sum(sizes.values()))
    seats = max(1, min(total - 2, round(fraction * total)))
    quotas = {label: seats * size // total for label, size in sizes.items()}
    by_remainder = sorted(
        sizes, key=lambda label: (-(seats * sizes[label] % total), _hash(label, seed))
    )
    for label in by_remainder[: seats - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _hash(name: str, seed: int) -> bytes:
    return blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
