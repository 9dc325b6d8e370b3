"""Scores the checkpoints of one run, during training and afterwards."""

import hashlib
import json

from ml_collections import ConfigDict

from ssagan_jax.data.pipeline import CaptionedImages
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.evaluation.eval_context import EvalRequest, build_eval_context
from ssagan_jax.evaluation.score_checkpoint import score_checkpoint
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.schedule import Schedule
from ssagan_jax.steps.state import TrainState


class Evaluator:
    """Scores states of one run, which share all compiled functions.

    Attributes:
      has_inception: whether there are weights for IS, FID, KID, precision and recall.
    """

    def __init__(
        self,
        config: ConfigDict,
        datasets: dict[str, CaptionedImages],
        tokenizer: Tokenizer,
        schedule: Schedule,
    ) -> None:
        """Takes a run's config, its "train" and "validation" data, its tokenizer and schedule.

        Raises:
          InputError: the Inception weights named by `config.eval.inception_weights` are not
            available.
        """
        self._context = build_eval_context(config, datasets, tokenizer, schedule)
        self.has_inception = self._context.inception is not None

    def digest(self) -> str:
        """SHA-256 of what the scores depend on: all images' metadata and the Inception weights."""
        digest = hashlib.sha256()
        for split, dataset in sorted(self._context.datasets.items()):
            digest.update(f"{split} {len(dataset)}".encode())
            for index in range(len(dataset)):
                record = dataset.metadata(index)
                digest.update(json.dumps([record["name"], record["captions"]]).encode())
        if self._context.inception:
            digest.update(self._context.inception.recipe["weights_sha256"].encode())
        return digest.hexdigest()

    def is_due(self, step: int) -> bool:
        """Whether `config.eval.every_epochs` asks for scores after a step that is not the last."""
        schedule = self._context.schedule
        every = self._context.config.eval.every_epochs * schedule.steps_per_epoch
        gan_steps = step - schedule.damsm_steps
        return (
            bool(every) and gan_steps > 0 and gan_steps % every == 0 and step < schedule.total_steps
        )

    def __call__(self, state: TrainState, request: EvalRequest | None = None) -> list[Score]:
        """Scores a state; see `score_checkpoint`."""
        return score_checkpoint(self._context, state, request or EvalRequest())
