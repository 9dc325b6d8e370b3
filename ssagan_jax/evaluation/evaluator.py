"""Scores the checkpoints of one run, during training and afterwards."""

import hashlib
import json
from collections.abc import Iterable

from ssagan_jax.config import ConfigError
from ssagan_jax.config.validation import MIN_IMAGES
from ssagan_jax.data.toy_cars.read_body import SIZE as BODY_SIZE
from ssagan_jax.evaluation.eval_context import EvalContext, EvalRequest
from ssagan_jax.evaluation.score_checkpoint import INCEPTION_SCORES, score_checkpoint
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.metrics.inception_weights import how_to_fetch
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

    def check_best(self) -> None:
        """Checks that `config.eval.best` can be computed for this run, if it is set.

        Raises:
          ConfigError: says why not.
        """
        name, data = self.config.eval.best, self.config.data
        if not name:
            return
        validation = self.datasets["validation"]
        compared = min(self.config.eval.num or len(validation), len(validation))
        class_ids = {validation.metadata(index)["class_id"] for index in range(len(validation))}
        reasons = {
            f"needs Inception v3 weights; {how_to_fetch()}": (
                name in INCEPTION_SCORES and not self.inception
            ),
            f"needs {MIN_IMAGES} images, but there are {len(validation)} in validation and "
            f"config.eval.num={self.config.eval.num}; hold out more (--val of prepare), or set "
            "config.eval.best to nothing": (
                name in (*INCEPTION_SCORES, "encoder_frechet") and compared < MIN_IMAGES
            ),
            "needs validation images of 2 classes": name == "r_precision" and len(class_ids) < 2,
            f"only toy cars have attributes, but config.data.name={data.name!r}": (
                name.startswith("attributes/") and data.name != "toy_cars"
            ),
            f"needs {BODY_SIZE} pixels, but config.data.image_size={data.image_size}": (
                name == "attributes/body" and data.image_size < BODY_SIZE
            ),
        }
        for reason, applies in reasons.items():
            if applies:
                raise ConfigError(f"config.eval.best={name!r}: {reason}")

    def is_due(self, step: int) -> bool:
        """Whether `config.eval.every_epochs` asks for scores after a step that is not the last."""
        every = self.config.eval.every_epochs * self.schedule.steps_per_epoch
        gan_steps = step - self.schedule.damsm_steps
        if not every or step >= self.schedule.total_steps:
            return False
        return gan_steps > 0 and gan_steps % every == 0

    def are_of_training(self, scores: Iterable[Score]) -> bool:
        """Whether scores of a step are those that training computes, and not other ones."""
        num = self.config.eval.num or len(self.datasets["validation"])
        recipes = {score.name: score.recipe for score in scores}
        # Diversity has a number of its own, and the encoders' retrieval has none.
        counts = [recipes[name].get("num_generated") for name in recipes if name != "diversity"]
        seeds = {recipe.get("seed") for recipe in recipes.values()}
        return num in counts and seeds == {EvalRequest.seed}

    def __call__(self, state: TrainState, request: EvalRequest | None = None) -> list[Score]:
        """Scores a state; see `score_checkpoint`."""
        return score_checkpoint(self, state, request or EvalRequest())
