"""The model behind the page: any checkpoint of a run, also of one that still trains."""

import collections
import dataclasses
import os
import threading
from typing import Any

from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice, read_best
from ssagan_jax.errors import InputError
from ssagan_jax.inference.model_folder import is_model_folder
from ssagan_jax.inference.model_loading import load_model
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.workdir import Workdir

LATEST = "latest"
# Parameters of several models would fill a GPU.
_KEPT = 2


class ServedModel:
    """Loads checkpoints when they are asked for; all share what is compiled.

    Attributes:
      workdir: of the run; None for an exported model, which has a single checkpoint.
      initial: the first choice, a value of `choices`.
    """

    def __init__(self, source: str, checkpoint: CheckpointChoice = None) -> None:
        """Loads the first model; raises what `load_model` does."""
        is_workdir = os.path.exists(source) and not is_model_folder(source)
        self.workdir = Workdir(source) if is_workdir else None
        self.initial = LATEST if checkpoint is None else str(checkpoint)
        self._source = source
        self._lock = threading.Lock()
        model = load_model(source, checkpoint)
        self._sampler = model.sampler
        self._models = collections.OrderedDict({model.step: model})

    def choices(self) -> list[str]:
        """Names of the checkpoints that there are now: latest, best, and steps, newest first."""
        if self.workdir is None:
            return [LATEST]
        best = ["best"] if read_best(self.workdir) else []
        steps = map(str, reversed(self.workdir.checkpoint_steps()))
        return list(dict.fromkeys([LATEST, *best, *steps, self.initial]))

    def model(self, choice: Any = LATEST) -> TrainedModel:
        """The model of a checkpoint.

        Raises:
          InputError: there is no such checkpoint, or training has deleted it.
        """
        if choice not in (allowed := self.choices()):
            raise InputError(
                f"the checkpoint is {choice!r:.40}; it must be one of {', '.join(allowed)}"
            )
        with self._lock:
            if self.workdir is None:
                return next(iter(self._models.values()))
            model = self._models.get(self._step(choice)) or self._load(choice)
            self._models[model.step] = model
            self._models.move_to_end(model.step)
            while len(self._models) > _KEPT:
                self._models.popitem(last=False)
            return model

    def is_trained(self, model: TrainedModel) -> bool:
        """Whether training of the model's generator has begun."""
        return self.workdir is None or self.workdir.schedule().is_generator_trained(model.step)

    def _step(self, choice: str) -> int:
        if choice == LATEST:
            return max(self.workdir.checkpoint_steps(), default=next(reversed(self._models)))
        best = read_best(self.workdir) if choice == "best" else None
        return best.step if best else int(choice)

    def _load(self, choice: str) -> TrainedModel:
        checkpoint = {LATEST: None, "best": "best"}.get(choice)
        if choice.isdecimal():
            checkpoint = int(choice)
        try:
            model = load_model(self._source, checkpoint)
        except OSError as error:  # Training deletes old checkpoints, also while they are read.
            raise InputError(
                f"checkpoint {choice} cannot be read ({error}); choose another one"
            ) from error
        return dataclasses.replace(model, sampler=self._sampler)
