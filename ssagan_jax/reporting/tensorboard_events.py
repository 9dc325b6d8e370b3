"""Scalars and texts of a run, read back from its TensorBoard events."""

import dataclasses
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from ssagan_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Events:
    """Values by name and step.

    Attributes:
      scalars: {name: {step: value}}, steps in order.
      texts: {name: {step: text}}, steps in order.
    """

    scalars: dict[str, dict[int, float]]
    texts: dict[str, dict[int, str]]


def read_events(folder: Path) -> Events:
    """Reads all event files of a folder; of a step written twice, the later one counts.

    Pictures and histograms are passed over, so memory does not grow with them.

    Raises:
      InputError: there is no event file.
    """
    # Their names begin with the time, so a resumed run's file comes behind the first one.
    files = sorted(folder.glob("events.out.tfevents.*"))
    if not files:
        raise InputError(
            f"--workdir={folder}: no TensorBoard events here (events.out.tfevents.*); copy them "
            "with the work folder, or train first"
        )
    found: dict[str, dict[str, dict[int, float | str]]] = {"scalars": {}, "text": {}}
    kinds: dict[str, str] = {}
    for file in files:
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                # Only the first value of a name has to say what kind it is.
                kind = kinds.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
                if kind in found:
                    content = tensor_util.make_ndarray(value.tensor).reshape(-1)[0]
                    plain = content.decode() if kind == "text" else float(content)
                    found[kind].setdefault(value.tag, {})[event.step] = plain
    scalars, texts = (
        {name: dict(sorted(values.items())) for name, values in found[kind].items()}
        for kind in ("scalars", "text")
    )
    return Events(scalars, texts)
