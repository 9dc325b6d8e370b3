"""Which steps of which runs a report shows."""

from collections.abc import Sequence

from ssagan_jax.errors import InputError
from ssagan_jax.reporting.runs import ReportedRun

# Epochs whose pictures are shown where none are asked for.
_SHOWN = 3


def read_epochs(text: str) -> list[float]:
    """Epochs of a flag "20,50"; raises InputError."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise InputError(f"--epochs={text}: write numbers with commas, as in 20,50") from error


def choose_steps(runs: Sequence[ReportedRun], epochs: Sequence[float]) -> list[list[int]]:
    """Steps of each run for the table: those at the epochs asked for, or else all with scores.

    A run without scores gets a line for the last of its steps.

    Raises:
      InputError: no run has anything of an epoch; the message lists what there is.
    """
    for epoch in epochs:
        if all(run.at(epoch) is None for run in runs):
            listed = "; ".join(
                f"{run.workdir.path}: {', '.join(f'{run.epoch(step):.1f}' for step in run.known)}"
                for run in runs
            )
            raise InputError(
                f"--epochs={epoch:g}: no checkpoint, sheet or score; there are {listed}"
            )
    if epochs:
        found = [[run.at(epoch) for epoch in epochs] for run in runs]
        return [sorted({step for step in steps if step is not None}) for steps in found]
    return [sorted(run.scores) or run.known[-1:] for run in runs]


def steps_with_images(
    runs: Sequence[ReportedRun], chosen: Sequence[Sequence[int]], asked: bool
) -> list[list[int]]:
    """Steps of each run to show pictures of: at the epochs that any run has in the table.

    Those are a few, spread evenly, and a run without any of them shows its last pictures, unless
    epochs were asked for.
    """
    pairs = zip(runs, chosen, strict=True)
    epochs = sorted({round(run.epoch(step), 1) for run, steps in pairs for step in steps})
    if not asked:
        spread = {index * (len(epochs) - 1) // (_SHOWN - 1) for index in range(_SHOWN)}
        epochs = [epochs[index] for index in sorted(spread)]
    found = []
    for run in runs:
        steps = [step for step in map(run.at, epochs) if step in run.pictured]
        found.append(steps if steps or asked else run.pictured[-1:])
    return found
