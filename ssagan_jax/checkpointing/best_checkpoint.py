"""The best checkpoint of a run by one of its scores, kept apart from the latest ones.

best.json names the step, which has a folder in checkpoints_best/. It is replaced after the new
checkpoint is on disk and before the old one is deleted, so it always names a complete one.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.checkpointing.checksums import CheckpointError
from ssagan_jax.untrusted.files import read_json
from ssagan_jax.workdir import Workdir

if TYPE_CHECKING:
    import grain

# Step of a checkpoint; the best one; or None for the latest intact one.
CheckpointChoice = int | Literal["best"] | None


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """A step, and the score by which it is the best.

    Attributes:
      step: of the checkpoint.
      score: its name.
      value: of the score.
      num: generated images that it was computed from.
    """

    step: int
    score: str
    value: float
    num: int = 0


def read_best(workdir: Workdir) -> BestCheckpoint | None:
    """The best checkpoint of a run; None if it keeps none.

    Raises:
      CheckpointError: best.json is damaged.
    """
    if not workdir.best.exists():
        return None
    try:
        best = BestCheckpoint(**read_json(workdir.best))
        types = type(best.step), type(best.score), type(best.value), type(best.num)
        if types not in ((int, str, float, int), (int, str, int, int)) or best.step < 0:
            raise TypeError("step, score, value or num have another type")
        return best
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{workdir.best}: cannot be read ({error!s:.300}); delete it to forget the best "
            "checkpoint"
        ) from error


def write_best(
    workdir: Workdir,
    best: BestCheckpoint,
    state: Any,
    batches: "grain.DatasetIterator",
    tokenizer: str,
) -> None:
    """Writes a checkpoint and makes it the best one; returns once it is on disk.

    Args:
      workdir: of the run.
      best: describes the checkpoint.
      state: at `best.step`, without a device axis.
      batches: the data iterator, at the same step.
      tokenizer: SHA-256 of the run's tokenizer.
    """
    folder = workdir.best_checkpoints
    target, part = folder / f"{best.step}", folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    checkpoints = Checkpoints(part, 1, tokenizer)
    checkpoints.save(state, batches)
    checkpoints.close()
    folder.mkdir(exist_ok=True)
    if target.exists():  # The same step before a run was killed, or by another score.
        if (last := read_best(workdir)) and last.step == best.step:
            workdir.best.unlink()
        shutil.rmtree(target)
    (part / target.name).rename(target)
    shutil.rmtree(part)
    write_atomically(workdir.best, json.dumps(dataclasses.asdict(best)) + "\n")
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other)


def find_checkpoint(workdir: Workdir, checkpoint: CheckpointChoice) -> tuple[Path, int | None]:
    """The folder of checkpoints that has a certain one, and its step; None for the latest.

    Raises:
      CheckpointError: the best one is wanted, but the run keeps none.
    """
    best = read_best(workdir)
    if checkpoint == "best":
        if best is None:
            raise CheckpointError(
                f"--checkpoint=best: {workdir.path} keeps no best checkpoint; train with "
                "--config.eval.best=SCORE, such as encoder_frechet, and --config.eval.every_epochs"
            )
        return workdir.best_checkpoints, best.step
    if best and checkpoint == best.step and checkpoint not in workdir.checkpoint_steps():
        return workdir.best_checkpoints, checkpoint
    return workdir.checkpoints, checkpoint


def parse_checkpoint(text: str) -> int | str:
    """The value of --checkpoint, a step or "best"; raises argparse.ArgumentTypeError."""
    if text == "best" or text.isdecimal():
        return text if text == "best" else int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: must be a step or best")
