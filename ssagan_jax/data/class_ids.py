"""Class labels to class ids."""

from collections.abc import Sequence


def class_ids(labels: set[str]) -> dict[str, int]:
    """Ids 0, 1, ... for class labels, in numerical order if all are numbers, else by name."""
    try:
        ordered = sorted(labels, key=int)
    except ValueError:
        ordered = sorted(labels)
    return {label: index for index, label in enumerate(ordered)}


def assign_class_ids(labels: Sequence[str]) -> list[int]:
    """The class id of each picture: that of its label, or a unique one if it has no label.

    DAMSM contrasts an image only with those of other classes. Pictures of unknown class, and those
    of a data set with a single class, must therefore not share an id.
    """
    ids = class_ids(set(labels) - {""})
    if len(ids) == 1:
        ids = {}
    return [ids.get(label, len(ids) + place) for place, label in enumerate(labels)]
