"""What all evaluations of a run share: its data, and its networks compiled for all devices."""

import dataclasses
from collections.abc import Iterator

from ml_collections import ConfigDict

from ssagan_jax.data.pipeline import Batch, CaptionedImages, Record, evaluation_batches
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.evaluation.encoder_features import encode_pairs
from ssagan_jax.evaluation.generated_images import caption_batches, generate_images
from ssagan_jax.metrics.features import FeatureNetwork
from ssagan_jax.metrics.inception_features import inception_features
from ssagan_jax.metrics.inception_weights import find_weights
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.pmap import BatchFn, pmap_batched


@dataclasses.dataclass(frozen=True)
class EvalFunctions:
    """Functions of variables and rows, and the batches to feed them.

    Attributes:
      paint: captions to pictures, `painting`.
      encode: pictures and captions to embeddings, `encoding`.
      inception: the network of IS, FID, KID, precision and recall, None without its weights.
      look: its features of rows of image u8[B, S, S, 3], None without its weights.
    """

    config: ConfigDict
    pictures: dict[str, CaptionedImages]
    tokenizer: Tokenizer
    paint: BatchFn
    encode: BatchFn
    inception: FeatureNetwork | None
    look: BatchFn | None

    def real_batches(self, split: str) -> Iterator[tuple[Batch, list[Record]]]:
        """All pictures of a split with their first captions."""
        data = self.config.data
        return evaluation_batches(
            self.pictures[split],
            self.tokenizer,
            image_size=data.image_size,
            max_words=data.max_words,
            batch_size=self.config.eval.batch_size,
        )

    def caption_batches(self, split: str, num: int) -> Iterator[tuple[Batch, list[Record]]]:
        """`num` captions of a split."""
        words, size = self.config.data.max_words, self.config.eval.batch_size
        return caption_batches(self.pictures[split], self.tokenizer, num, words, size)


def build_eval_functions(
    config: ConfigDict, pictures: dict[str, CaptionedImages], tokenizer: Tokenizer
) -> EvalFunctions:
    """Sets up for a run's config, its "train" and "validation" pictures and its tokenizer.

    Raises:
      InputError: the Inception weights that `config.eval` names cannot be had.
    """
    networks, size = build_networks(config, tokenizer.vocabulary), config.eval.batch_size
    weights = find_weights(config.eval.inception_weights)
    inception = inception_features(weights, config.eval.inception_variant) if weights else None
    return EvalFunctions(
        config=config,
        pictures=pictures,
        tokenizer=tokenizer,
        paint=generate_images(networks, config.generator.noise_dim, size),
        encode=encode_pairs(networks, size),
        inception=inception,
        look=pmap_batched(inception.rows, size) if inception else None,
    )
