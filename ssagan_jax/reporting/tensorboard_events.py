"""Reads scalars and texts from TensorBoard event files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from ssagan_jax.errors import InputError
from ssagan_jax.untrusted.files import open_regular


def read_events(folder: Path) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, str]]]:
    """Reads all event files of a folder; if a step was written twice, the later value counts.

    Images and histograms are skipped, so memory does not grow with them.

    Returns:
      Scalars and texts by name and step, steps in order.

    Raises:
      InputError: there is no event file.
    """
    # Their names contain the time, so the file of a resumed run sorts after the first.
    files = sorted(folder.glob("events.out.tfevents.*"))
    if not files:
        raise InputError(
            f"--workdir={folder}: no TensorBoard events here (events.out.tfevents.*); copy them "
            "along with the work folder, or train first"
        )
    found = {"scalars": {}, "text": {}}
    kinds: dict[str, str] = {}
    for file in files:
        for event in _events(file):
            for value in event.summary.value:
                shape = [dimension.size for dimension in value.tensor.tensor_shape.dim]
                if math.prod(shape) != 1:  # A single number may stand for an array of any size.
                    continue
                # Only the first value of a tag is required to name its plugin.
                kind = kinds.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
                if kind in found:
                    content = tensor_util.make_ndarray(value.tensor).reshape(-1)[0]
                    plain = content.decode() if kind == "text" else float(content)
                    found[kind].setdefault(value.tag, {})[event.step] = plain
    scalars, texts = (
        {name: dict(sorted(values.items())) for name, values in each.items()}
        for each in found.values()
    )
    return scalars, texts


def _events(file: Path) -> Iterator[Any]:
    """Yields the events of a file; raises InputError if it is damaged."""
    try:
        with open_regular(file):  # TensorBoard would wait for a pipe.
            yield from EventFileLoader(str(file)).Load()
    except Exception as error:  # Its parsers raise many types.
        raise InputError(f"{file}: cannot be read ({error}); remove it") from error
