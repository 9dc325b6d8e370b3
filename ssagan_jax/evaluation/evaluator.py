"""The one evaluator of a run: a trained state in, scores out, in training as afterwards."""

import dataclasses
import hashlib
import json

from ml_collections import ConfigDict

from ssagan_jax.data.pipeline import Pictures
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.evaluation.instruments import build_instruments
from ssagan_jax.evaluation.passes import Request
from ssagan_jax.evaluation.round import Round
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.training.parallel import replicated
from ssagan_jax.training.stages import stages_of
from ssagan_jax.training.state import TrainState


class Evaluator:
    """Scores states of one run; what it compiles serves all of them.

    Attributes:
      stages: of the run.
      knows_inception: whether there are weights for IS, FID, KID, precision and recall.
    """

    def __init__(
        self, config: ConfigDict, pictures: dict[str, Pictures], tokenizer: Tokenizer
    ) -> None:
        """Sets up for a run's config, its "train" and "validation" pictures and its tokenizer.

        Raises:
          InputError: the Inception weights that `config.eval` names cannot be had.
        """
        self._instruments = build_instruments(config, pictures, tokenizer)
        self.stages = stages_of(config, len(pictures["train"]))
        self.knows_inception = self._instruments.inception is not None

    def digest(self) -> str:
        """SHA-256 of what is scored, and with what: texts of all pictures, Inception weights."""
        digest = hashlib.sha256()
        for split, pictures in sorted(self._instruments.pictures.items()):
            digest.update(f"{split} {len(pictures)}".encode())
            for index in range(len(pictures)):
                record = pictures.text(index)
                digest.update(json.dumps([record["name"], record["captions"]]).encode())
        if self._instruments.inception:
            digest.update(self._instruments.inception.recipe["weights_sha256"].encode())
        return digest.hexdigest()

    def is_due(self, step: int) -> bool:
        """Whether `config.eval.every_epochs` asks for scores after a step that is not the last."""
        every = self._instruments.config.eval.every_epochs * self.stages.per_epoch
        taken = step - self.stages.damsm
        return bool(every) and taken > 0 and taken % every == 0 and step < self.stages.total

    def __call__(self, state: TrainState, request: Request | None = None) -> list[Score]:
        """Scores a state; one of the encoders' stage only by how the encoders retrieve."""
        request = request or Request()
        pictures = len(self._instruments.pictures[request.split])
        num = request.num or self._instruments.config.eval.num or pictures
        step, gan = int(state.step), self.stages.has_generator(int(state.step))
        request = dataclasses.replace(request, num=num)
        findings = Round(self._instruments, replicated(state), request).findings(gan)
        return [
            Score(
                step=step,
                epoch=self.stages.epoch(step),
                stage="gan" if gan else "encoders",
                split=request.split,
                **dataclasses.asdict(finding),
            )
            for finding in findings
        ]
