"""The one evaluator of a run: a trained state in, scores out, in training as afterwards."""

import dataclasses
import hashlib
import json

from ml_collections import ConfigDict

from ssagan_jax.data.pipeline import CaptionedImages
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.evaluation.eval_functions import build_eval_functions
from ssagan_jax.evaluation.feature_passes import EvalRequest
from ssagan_jax.evaluation.score_checkpoint import Round
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.schedule import make_schedule
from ssagan_jax.steps.pmap import replicate
from ssagan_jax.steps.state import TrainState


class Evaluator:
    """Scores states of one run; what it compiles serves all of them.

    Attributes:
      schedule: of the run.
      knows_inception: whether there are weights for IS, FID, KID, precision and recall.
    """

    def __init__(
        self, config: ConfigDict, pictures: dict[str, CaptionedImages], tokenizer: Tokenizer
    ) -> None:
        """Sets up for a run's config, its "train" and "validation" pictures and its tokenizer.

        Raises:
          InputError: the Inception weights that `config.eval` names cannot be had.
        """
        self._instruments = build_eval_functions(config, pictures, tokenizer)
        self.schedule = make_schedule(config, len(pictures["train"]))
        self.knows_inception = self._instruments.inception is not None

    def digest(self) -> str:
        """SHA-256 of what is scored, and with what: texts of all pictures, Inception weights."""
        digest = hashlib.sha256()
        for split, pictures in sorted(self._instruments.pictures.items()):
            digest.update(f"{split} {len(pictures)}".encode())
            for index in range(len(pictures)):
                record = pictures.metadata(index)
                digest.update(json.dumps([record["name"], record["captions"]]).encode())
        if self._instruments.inception:
            digest.update(self._instruments.inception.recipe["weights_sha256"].encode())
        return digest.hexdigest()

    def is_due(self, step: int) -> bool:
        """Whether `config.eval.every_epochs` asks for scores after a step that is not the last."""
        every = self._instruments.config.eval.every_epochs * self.schedule.steps_per_epoch
        taken = step - self.schedule.damsm_steps
        return bool(every) and taken > 0 and taken % every == 0 and step < self.schedule.total_steps

    def __call__(self, state: TrainState, request: EvalRequest | None = None) -> list[Score]:
        """Scores a state; one of the encoders' stage only by how the encoders retrieve."""
        request = request or EvalRequest()
        pictures = len(self._instruments.pictures[request.split])
        num = request.num or self._instruments.config.eval.num or pictures
        step, gan = int(state.step), self.schedule.has_generator(int(state.step))
        request = dataclasses.replace(request, num=num)
        findings = Round(self._instruments, replicate(state), request).findings(gan)
        return [
            Score(
                step=step,
                epoch=self.schedule.gan_epoch(step),
                stage="gan" if gan else "encoders",
                split=request.split,
                **dataclasses.asdict(finding),
            )
            for finding in findings
        ]
