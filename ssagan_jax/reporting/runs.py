"""A run, read back from its work folder alone."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from ssagan_jax.errors import InputError
from ssagan_jax.reporting.score_table import Score, read_scores
from ssagan_jax.reporting.tensorboard_events import Events, read_events
from ssagan_jax.workdir import Workdir

_ENCODERS = {"lstm": "bidirectional LSTM", "bert": "BERT"}
# Epochs are shown with one decimal, and found again by what was shown.
_NEAR = 0.05001


@dataclasses.dataclass(frozen=True)
class ReportedRun:
    """What a report tells of a run.

    Attributes:
      method: the run's name in tables, one for each run.
      file_name: the run's name in files, one for each run.
      first_step: the step at which the GAN's stage begins.
      scores: by step and name.
      checkpoints: steps of the GAN's stage that have a checkpoint.
      sheets: steps of the GAN's stage that have a sample sheet.
    """

    method: str
    file_name: str
    workdir: Workdir
    config: ConfigDict
    events: Events
    first_step: int
    steps_per_epoch: int
    scores: dict[int, dict[str, Score]]
    checkpoints: list[int]
    sheets: list[int]

    def epoch(self, step: int) -> float:
        """GAN epochs done at a step."""
        return (step - self.first_step) / self.steps_per_epoch

    def scalar(self, name: str) -> dict[int, float]:
        """A scalar's values by step, in the GAN's stage; {} where it was not written."""
        values = self.events.scalars.get(name, {})
        return {step: value for step, value in values.items() if step > self.first_step}

    def text(self, name: str) -> str:
        """The latest text of a name, "" where there is none."""
        return next(reversed(self.events.texts.get(name, {"": ""}).values()))

    @property
    def captions(self) -> list[str]:
        """The captions of the run's sample sheets."""
        return [caption for caption in self.text("captions").split("\n\n") if caption]

    @property
    def pictured(self) -> list[int]:
        """Steps at which pictures can be shown."""
        return sorted({*self.checkpoints, *self.sheets})

    @property
    def known(self) -> list[int]:
        """Steps of which there are pictures or scores."""
        return sorted({*self.pictured, *self.scores})

    def at(self, epoch: float) -> int | None:
        """The step of which there are pictures or scores at an epoch, None where there is none."""
        step = min(self.known, key=lambda step: abs(self.epoch(step) - epoch))
        return step if abs(self.epoch(step) - epoch) < _NEAR else None


def open_reported_runs(folders: Sequence[str], split: str) -> list[ReportedRun]:
    """Opens work folders; `split` is that of the scores.

    Raises:
      InputError: a folder is given twice, or is none of a run that has trained its GAN.
    """
    workdirs = [Workdir(folder) for folder in folders]
    for workdir, count in collections.Counter(each.path for each in workdirs).items():
        if count > 1:
            raise InputError(f"--workdir={workdir}: given {count} times; once is enough")
    configs = [workdir.config() for workdir in workdirs]
    encoders = [config.text_encoder.name for config in configs]
    methods = [f"SSA-GAN with {_ENCODERS.get(name, name)}" for name in encoders]
    # Methods that occur twice get their folder's name, and then its path.
    for names in ([each.path.name for each in workdirs], [str(each.path) for each in workdirs]):
        counts = collections.Counter(methods)
        methods = [
            method if counts[method] == 1 else f"{method} ({name})"
            for method, name in zip(methods, names, strict=True)
        ]
    opened = zip(workdirs, configs, methods, strict=True)
    return [
        _open(workdir, config, method, f"{index}-{_plain(workdir.path)}", split)
        for index, (workdir, config, method) in enumerate(opened, 1)
    ]


def _plain(path: Path) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", path.name.lower()))[:40]


def _open(
    workdir: Workdir, config: ConfigDict, method: str, file_name: str, split: str
) -> ReportedRun:
    checkpoints = workdir.checkpoint_steps()
    if not checkpoints:
        raise InputError(f"{workdir.checkpoints}: no checkpoint here; train first")
    events = read_events(workdir.path)
    first, per_epoch = _schedule(workdir, config, events)
    run = ReportedRun(
        method=method,
        file_name=file_name,
        workdir=workdir,
        config=config,
        events=events,
        first_step=first,
        steps_per_epoch=per_epoch,
        scores=read_scores(workdir.path / "eval" / "metrics.jsonl", split),
        checkpoints=[step for step in checkpoints if step > first],
        sheets=[step for step in workdir.sample_grid_steps() if step > first],
    )
    if not run.known:
        raise InputError(
            f"--workdir={workdir.path}: no checkpoint, sheet or score of the GAN's stage yet, "
            f"which began at step {first}; train on"
        )
    return run


def _schedule(workdir: Workdir, config: ConfigDict, events: Events) -> tuple[int, int]:
    """The GAN stage's first step and its steps an epoch, from what training measured."""
    epochs, seconds, rates = (
        events.scalars.get(f"time/{name}", {})
        for name in ("epoch", "seconds_per_epoch", "pictures_per_second")
    )
    gan = events.scalars.get("generator/adversarial", {})
    timed = [step for step in gan if step in epochs and step in seconds and step in rates]
    if not timed:
        raise InputError(
            f"--workdir={workdir.path}: its events have no time/epoch and time/seconds_per_epoch "
            "of the GAN's stage: it has not trained that far, or was trained by an older version; "
            "train on for some steps"
        )
    step = timed[-1]
    per_epoch = round(seconds[step] * rates[step] / config.train.batch_size)
    return round(step - epochs[step] * per_epoch), per_epoch
