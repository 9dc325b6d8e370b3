"""Whether toy cars are painted as their captions say."""

import re
from collections.abc import Sequence

import numpy as np

from ssagan_jax.data.pipeline import Record
from ssagan_jax.data.toy_cars.read_body import READABLE_COLORS, SIZE, read_body
from ssagan_jax.data.toy_cars.read_color_and_facing import read_color, read_facing

_RULES = {"color": read_color, "facing": read_facing, "body": read_body}


def attribute_hits(images: np.ndarray, records: Sequence[Record]) -> dict[str, list[bool]]:
    """By attribute, whether each picture shows what its caption names.

    Args:
      images: u8[B, S, S, 3].
      records: of toy cars, with the "caption" that was painted; those that do not name an
        attribute do not count for it.
    """
    hits: dict[str, list[bool]] = {}
    for name, rule in _RULES.items():
        if name == "body" and images.shape[1] < SIZE:
            continue
        hits[name] = [
            seen == record["attributes"][name]
            for record, seen in zip(records, rule(images), strict=True)
            if _counts(name, record)
        ]
    return hits


def _counts(name: str, record: Record) -> bool:
    """Whether the caption names the attribute, and the rule would read it if it were shown."""
    wanted = record["attributes"]
    if name == "body" and wanted["color"] not in READABLE_COLORS:
        return False
    return bool(re.search(rf"\b{wanted[name]}\b", record["caption"].lower()))
