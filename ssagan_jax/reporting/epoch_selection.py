"""Selects the steps of each run that a report shows."""

from collections.abc import Sequence

from ssagan_jax.errors import InputError
from ssagan_jax.reporting.runs import ReportedRun

# Epochs whose images are shown unless the user asks for others.
_DEFAULT_IMAGE_EPOCHS = 3


def read_epochs(text: str) -> list[float]:
    """Parses the value of --epochs, as in "20,50"; raises InputError."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise InputError(f"--epochs={text}: write numbers with commas, as in 20,50") from error


def select_table_steps(runs: Sequence[ReportedRun], epochs: Sequence[float]) -> list[list[int]]:
    """Steps of each run in the table: those at the given epochs, or else all that have scores.

    A run without scores gets a line for its last available step.

    Raises:
      InputError: no run has anything at one of the epochs; the message lists the epochs there are.
    """
    if not epochs:
        return [sorted(run.scores) or run.available_steps[-1:] for run in runs]
    found = [[run.step_at_epoch(epoch) for epoch in epochs] for run in runs]
    for epoch, *steps in zip(epochs, *found, strict=True):
        if set(steps) == {None}:
            available = "; ".join(
                f"{run.workdir.path}: "
                + ", ".join(f"{run.epoch(step):.1f}" for step in run.available_steps)
                for run in runs
            )
            raise InputError(
                f"--epochs={epoch:g}: no checkpoint, sample grid or score; available: {available}"
            )
    return [sorted({step for step in steps if step is not None}) for steps in found]


def select_image_steps(
    runs: Sequence[ReportedRun], table_steps: Sequence[Sequence[int]], epochs_given: bool
) -> list[list[int]]:
    """Steps of each run whose images are shown: at the epochs that any run has in the table.

    Unless the user gave epochs, only a few of them, spread evenly, are shown, and a run that has
    images at none of them shows its last ones.
    """
    pairs = zip(runs, table_steps, strict=True)
    epochs = sorted({round(run.epoch(step), 1) for run, steps in pairs for step in steps})
    if not epochs_given:
        last = _DEFAULT_IMAGE_EPOCHS - 1
        spread = {index * (len(epochs) - 1) // last for index in range(_DEFAULT_IMAGE_EPOCHS)}
        epochs = [epochs[index] for index in sorted(spread)]
    selected = []
    for run in runs:
        steps = [step for step in map(run.step_at_epoch, epochs) if step in run.steps_with_images]
        selected.append(steps if steps or epochs_given else run.steps_with_images[-1:])
    return selected
