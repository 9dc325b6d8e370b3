"""What all evaluations of a run share: its data, and its networks compiled for all devices."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.pipeline import Batch, CaptionedImages, Record, evaluation_batches
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.evaluation.encoder_features import build_encode_fn, encoder_variables
from ssagan_jax.evaluation.generated_images import build_generate_fn, caption_batches
from ssagan_jax.inference.sampler import generation_variables
from ssagan_jax.metrics.features import FeatureNetwork
from ssagan_jax.metrics.inception_features import inception_features
from ssagan_jax.metrics.inception_weights import find_weights
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.pmap import BatchFn, pmap_batched, replicate
from ssagan_jax.steps.state import TrainState


@dataclasses.dataclass(frozen=True)
class EvalRequest:
    """What to score.

    Attributes:
      split: "train" or "validation", the source of captions and real images.
      num: generated images; 0 for `config.eval.num`, or else as many as the split has.
      seed: of the noise.
      folder: where generated images are written; None for nowhere.
    """

    split: str = "validation"
    num: int = 0
    seed: int = 0
    folder: Path | None = None


@dataclasses.dataclass(frozen=True)
class CheckpointFunctions:
    """The networks of one checkpoint as functions of batches, on all devices.

    Attributes:
      generate: number, tokens and mask to image u8[B, S, S, 3].
      encode: image, tokens and mask to code f32[B, E] and sentence f32[B, E].
      inception: image to pooled f32[B, 2048] and logits f32[B, C]; None without its weights.
    """

    generate: Callable[[Batch], Batch]
    encode: Callable[[Batch], Batch]
    inception: Callable[[Batch], Batch] | None

    def image_features(self, batch: Batch) -> np.ndarray:
        """Inception's features f32[B, D] of images, or else the run's own image codes."""
        return self.inception(batch)["pooled"] if self.inception else self.encode(batch)["code"]


class EvalContext:
    """Data and compiled functions.

    Attributes:
      datasets: "train" and "validation".
      tokenizer: of the run.
      networks: built without an axis name.
      has_image_encoder: whether the run's image encoder is trained; else its scores are left out.
      inception: the network of IS, FID, KID, precision and recall; None without its weights.
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
        self.config, self.datasets, self.schedule = config, datasets, schedule
        self.tokenizer = tokenizer
        self.has_image_encoder = True
        self.networks = build_networks(config, tokenizer.vocabulary)
        noise_dim, batch_size = config.generator.noise_dim, config.eval.batch_size
        self._generate = build_generate_fn(self.networks, noise_dim, batch_size)
        self._encode = build_encode_fn(self.networks, batch_size)
        self.inception: FeatureNetwork | None = None
        if weights := find_weights(config.eval.inception_weights):
            self.inception = inception_features(weights, config.eval.inception_variant)
            self._apply_inception = pmap_batched(self.inception.rows, batch_size)

    def functions(self, state: TrainState, seed: int) -> CheckpointFunctions:
        """The functions for a replicated state; `seed` is that of the noise."""
        generation = generation_variables(state) | {"seed": np.uint32(seed)}

        def call(function: BatchFn, variables: object, *names: str) -> Callable[[Batch], Batch]:
            # Always the same rows, since every other set of them would be compiled again.
            return lambda batch: function(variables, {name: batch[name] for name in names})

        inception = None
        if self.inception:
            inception = call(self._apply_inception, replicate(self.inception.variables), "image")
        return CheckpointFunctions(
            call(self._generate, generation, "number", "tokens", "mask"),
            call(self._encode, encoder_variables(state), "image", "tokens", "mask"),
            inception,
        )

    def real_batches(self, split: str) -> Iterator[tuple[Batch, list[Record]]]:
        """All images of a split with their first captions."""
        data = self.config.data
        return evaluation_batches(
            self.datasets[split],
            self.tokenizer,
            image_size=data.image_size,
            max_words=data.max_words,
            batch_size=self.config.eval.batch_size,
        )

    def caption_batches(self, split: str, num: int) -> Iterator[tuple[Batch, list[Record]]]:
        """`num` captions of a split; see `generated_images.caption_batches`."""
        max_words, batch_size = self.config.data.max_words, self.config.eval.batch_size
        return caption_batches(self.datasets[split], self.tokenizer, num, max_words, batch_size)
