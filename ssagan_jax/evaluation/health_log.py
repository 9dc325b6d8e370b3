"""The measurements of a run's health in its work folder, and what they warn of."""

import dataclasses
import json
from collections.abc import Sequence

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.health_probe import PREFIX
from ssagan_jax.untrusted.files import parse_json, read_text
from ssagan_jax.untrusted.limits import TABLE_BYTES
from ssagan_jax.workdir import Workdir

# A variety has collapsed below this share of the highest value that two measurements in a row
# reached, or of that of real images if it was above.
COLLAPSED = 0.35
# The share of pairs in which a training image has a higher logit than a held-out one, from which on
# the discriminator has memorized the training images.
SEPARATED = 0.99
_COLLAPSE = (
    "variety between {of} fell from {highest:.2g} to {value:.2g} of that of real images. "
    "Use a checkpoint from before (config.eval.best keeps the best one for --checkpoint=best), and "
    "train again with lower learning rates in another --workdir"
)
_SEPARATION = (
    "in {value:.0%} of pairs of a training and a held-out image the discriminator gives the first "
    "a higher logit: it has memorized the training images, and generated ones hardly improve from "
    "here on. Use the best checkpoint (config.eval.best keeps it for --checkpoint=best); more "
    "training images or a smaller config.discriminator.channels delay this"
)
_MESSAGES = {
    "noise_variety": _COLLAPSE.replace("{of}", "images of one caption"),
    "caption_variety": _COLLAPSE.replace("{of}", "images of different captions"),
    "separation": _SEPARATION,
}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The values of `HealthProbe` at a step."""

    step: int
    values: dict[str, float]


def read_health(workdir: Workdir) -> list[Measurement]:
    """The measurements of a run, by step.

    Raises:
      InputError: a line of the file is not a measurement.
    """
    path = workdir.health
    found = []
    lines = read_text(path, TABLE_BYTES).splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            found.append(Measurement(int(row.pop("step")), {k: float(v) for k, v in row.items()}))
            if missing := {PREFIX + name for name in _MESSAGES} - row.keys():
                raise KeyError(*sorted(missing))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(f"{path}:{number}: not a measurement ({error}); delete it") from error
    return found


def write_health(workdir: Workdir, measurement: Measurement) -> list[Measurement]:
    """Adds a measurement to the file, in place of that of its step and of later ones.

    Returns all measurements.
    """
    before = [each for each in read_health(workdir) if each.step < measurement.step]
    measurements = [*before, measurement]
    lines = (json.dumps({"step": each.step} | each.values) for each in measurements)
    write_atomically(workdir.health, "".join(f"{line}\n" for line in lines))
    return measurements


def find_warnings(measurements: Sequence[Measurement]) -> dict[int, list[str]]:
    """Warnings by the step at which they are due: the second bad measurement in a row."""
    found: dict[int, list[str]] = {}
    for name, message in _MESSAGES.items():
        highest, previous, in_a_row = 0.0, 0.0, 0
        for each in measurements:
            value = each.values[PREFIX + name]
            highest, previous = max(highest, min(value, previous, 1.0)), value
            bad = value >= SEPARATED if name == "separation" else value < COLLAPSED * highest
            in_a_row = in_a_row + 1 if bad else 0
            if in_a_row == 2:
                text = f"step {each.step}: {message.format(value=value, highest=highest)}"
                found.setdefault(each.step, []).append(text)
    return found
