"""Scores the checkpoints of one run, during training and afterwards."""

import hashlib
import json

from ssagan_jax.evaluation.eval_context import EvalContext, EvalRequest
from ssagan_jax.evaluation.score_checkpoint import score_checkpoint
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.steps.state import TrainState


class Evaluator(EvalContext):
    """Scores states of one run, which share all compiled functions."""

    def digest(self) -> str:
        """SHA-256 of what the scores depend on: all images' metadata and the Inception weights."""
        digest = hashlib.sha256()
        for split, dataset in sorted(self.datasets.items()):
            digest.update(f"{split} {len(dataset)}".encode())
            for index in range(len(dataset)):
                record = dataset.metadata(index)
                digest.update(json.dumps([record["name"], record["captions"]]).encode())
        if self.inception:
            digest.update(self.inception.recipe["weights_sha256"].encode())
        return digest.hexdigest()

    def is_due(self, step: int) -> bool:
        """Whether `config.eval.every_epochs` asks for scores after a step that is not the last."""
        every = self.config.eval.every_epochs * self.schedule.steps_per_epoch
        gan_steps = step - self.schedule.damsm_steps
        if not every or step >= self.schedule.total_steps:
            return False
        return gan_steps > 0 and gan_steps % every == 0

    def __call__(self, state: TrainState, request: EvalRequest | None = None) -> list[Score]:
        """Scores a state; see `score_checkpoint`."""
        return score_checkpoint(self, state, request or EvalRequest())
