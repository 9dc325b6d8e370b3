"""Reads a run from its work folder."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ml_collections import ConfigDict

from ssagan_jax.checkpointing.best_checkpoint import (
    BestCheckpoint,
    find_checkpoint,
    read_best,
)
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.health_log import find_warnings, read_health
from ssagan_jax.evaluation.scores import Score, read_scores
from ssagan_jax.fixed_samples import FixedSamples
from ssagan_jax.reporting.tensorboard_events import read_events
from ssagan_jax.workdir import Workdir

_ENCODERS = {"lstm": "bidirectional LSTM", "bert": "BERT"}
# Epochs are shown with one decimal, and found again by the number shown.
_EPOCH_TOLERANCE = 0.05001


@dataclasses.dataclass(frozen=True)
class ReportedRun:
    """What a report shows of a run, all of it from stage 2.

    Attributes:
      method: name of the run in tables, unique in a report.
      file_name: name of the run in files, unique in a report.
      scalars, texts: TensorBoard's, by name and step, of both stages.
      scores: by step and name.
      checkpoints: steps that have a checkpoint, the best one included.
      best: the best checkpoint; None if the run keeps none.
      warnings: of overfitting and of collapse, in order.
      steps_with_images: steps that have a checkpoint or a sample grid.
    """

    method: str
    file_name: str
    workdir: Workdir
    config: ConfigDict
    schedule: Schedule
    scalars: dict[str, dict[int, float]]
    texts: dict[str, dict[int, str]]
    scores: dict[int, dict[str, Score]]
    checkpoints: list[int]
    best: BestCheckpoint | None
    warnings: list[str]
    steps_with_images: list[int]
    fixed_samples: FixedSamples

    def epoch(self, step: int) -> float:
        """Epochs of stage 2 completed at a step."""
        return self.schedule.gan_epoch(step)

    def scalar(self, name: str) -> dict[int, float]:
        """Values of a scalar by step, in stage 2; {} if it was never written."""
        values = self.scalars.get(name, {})
        return {step: value for step, value in values.items() if step > self.schedule.damsm_steps}

    def latest_text(self, name: str) -> str:
        """The latest text of a name; "" if there is none."""
        return next(reversed(self.texts.get(name, {"": ""}).values()))

    @property
    def available_steps(self) -> list[int]:
        """Steps of which there are images or scores."""
        return sorted({*self.steps_with_images, *self.scores})

    def step_of(self, checkpoint: int | Literal["best"]) -> int:
        """The step of a checkpoint of stage 2.

        Raises:
          InputError: the run does not have it.
        """
        _, step = find_checkpoint(self.workdir, checkpoint)
        if step not in self.checkpoints:
            raise InputError(
                f"--checkpoint={step}: {self.workdir.path} has the checkpoints {self.checkpoints}"
            )
        return step

    def step_at_epoch(self, epoch: float) -> int | None:
        """The available step at an epoch; None if there is none."""
        step = min(self.available_steps, key=lambda step: abs(self.epoch(step) - epoch))
        return step if abs(self.epoch(step) - epoch) < _EPOCH_TOLERANCE else None


def open_reported_runs(folders: Sequence[str], split: str) -> list[ReportedRun]:
    """Opens work folders; `split` is that of the scores.

    Raises:
      InputError: a folder is given twice, or holds no run that has begun stage 2.
    """
    workdirs = [Workdir(folder) for folder in folders]
    for workdir, count in collections.Counter(each.path for each in workdirs).items():
        if count > 1:
            raise InputError(f"--workdir={workdir}: given {count} times; give it once")
    methods = _unique_methods(workdirs)
    return [
        _open_run(workdir, method, f"{index}-{_slug(workdir.path)}", split)
        for index, (workdir, method) in enumerate(zip(workdirs, methods, strict=True), 1)
    ]


def _unique_methods(workdirs: Sequence[Workdir]) -> list[str]:
    """Names of the methods; equal ones are distinguished by folder name, and then by path."""
    encoders = [workdir.config().text_encoder.name for workdir in workdirs]
    methods = [f"SSA-GAN with {_ENCODERS[name]}" for name in encoders]
    for names in ([each.path.name for each in workdirs], [str(each.path) for each in workdirs]):
        counts = collections.Counter(methods)
        methods = [
            method if counts[method] == 1 else f"{method} ({name})"
            for method, name in zip(methods, names, strict=True)
        ]
    return methods


def _slug(path: Path) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", path.name.lower()))[:40]


def _open_run(workdir: Workdir, method: str, file_name: str, split: str) -> ReportedRun:
    if not workdir.checkpoint_steps():
        raise InputError(f"{workdir.checkpoints}: no checkpoint here; train first")
    schedule, (scalars, texts) = workdir.schedule(), read_events(workdir.path)
    first = schedule.damsm_steps
    best, warnings = read_best(workdir), find_warnings(read_health(workdir))
    kept = {*workdir.checkpoint_steps(), *([best.step] if best else [])}
    checkpoints = sorted(step for step in kept if step > first)
    sample_grids = [step for step in workdir.sample_grid_steps() if step > first]
    scores = {step: row for step, row in read_scores(workdir, split).items() if step > first}
    if not (checkpoints or sample_grids or scores):
        raise InputError(
            f"--workdir={workdir.path}: no checkpoint, sample grid or score of stage 2 yet, which "
            f"begins after step {first}; resume training"
        )
    run = ReportedRun(
        method=method,
        file_name=file_name,
        workdir=workdir,
        config=workdir.config(),
        schedule=schedule,
        scalars=scalars,
        texts=texts,
        scores=scores,
        checkpoints=checkpoints,
        best=best,
        warnings=[text for _, texts in sorted(warnings.items()) for text in texts],
        steps_with_images=sorted({*checkpoints, *sample_grids}),
        fixed_samples=workdir.fixed_samples(),
    )
    if not run.scalar("time/seconds_per_epoch"):
        raise InputError(
            f"--workdir={workdir.path}: its TensorBoard events have no time/seconds_per_epoch of "
            "stage 2 yet; train for some more steps"
        )
    return run
