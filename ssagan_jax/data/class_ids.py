"""Class labels to class ids."""

from collections.abc import Sequence


def class_ids(labels: set[str]) -> dict[str, int]:
    """Numbers 0, 1, ... for classes: in the order of their numbers, or of their names."""
    try:
        ordered = sorted(labels, key=int)
    except ValueError:
        ordered = sorted(labels)
    return {label: index for index, label in enumerate(ordered)}


def assign_class_ids(labels: Sequence[str]) -> list[int]:
    """Each picture's class: the number of its label, or one of its own where it has none.

    DAMSM contrasts a picture with those of other classes alone. Pictures whose class is unknown,
    and those of a set with one class, must therefore not share a number.
    """
    ids = class_ids(set(labels) - {""})
    if len(ids) == 1:
        ids = {}
    return [ids.get(label, len(ids) + place) for place, label in enumerate(labels)]
