"""Collects the features that scores need, in passes over real and generated images."""

import hashlib
from collections.abc import Iterator

import numpy as np

from ssagan_jax.data.pipeline import Batch
from ssagan_jax.evaluation.eval_context import CheckpointFunctions, EvalContext, EvalRequest
from ssagan_jax.evaluation.generated_images import save_images
from ssagan_jax.evaluation.real_statistics_cache import cached_stats
from ssagan_jax.evaluation.toy_car_attributes import attribute_hits
from ssagan_jax.metrics.features import FeatureStats, FeatureSubset
from ssagan_jax.metrics.inception_score import InceptionScore
from ssagan_jax.metrics.nearest import Nearest

# Of the diversity score: captions, and images of each.
_DIVERSITY_CAPTIONS, _DIVERSITY_IMAGES = 8, 8


class PairFeatures:
    """Images, by their codes and class ids, and embeddings of their captions."""

    def __init__(self, num: int) -> None:
        self.codes = FeatureStats(num)
        self.sentences = FeatureSubset(num)
        self.class_ids = FeatureSubset(num)

    def add(self, encoded: Batch, class_ids: np.ndarray) -> None:
        """Adds pairs: code f32[B, E], sentence f32[B, E] and class ids i32[B]."""
        self.codes.add(encoded["code"])
        self.sentences.add(encoded["sentence"])
        self.class_ids.add(class_ids)


class GeneratedFeatures:
    """Features of the generated images.

    Attributes:
      pairs: the images and the captions that they were generated from.
      captions: of those images whose features are kept.
      attribute_hits: of toy cars; see `toy_car_attributes.attribute_hits`.
    """

    def __init__(self, num: int, splits: int) -> None:
        self.pairs = PairFeatures(num)
        self.inception = FeatureStats(num)
        self.inception_score = InceptionScore(num, min(splits, num))
        self.captions = FeatureSubset(num)
        self.attribute_hits: dict[str, list[bool]] = {}


def real_features(
    context: EvalContext, functions: CheckpointFunctions, split: str
) -> tuple[PairFeatures, str]:
    """Features of a split's real pairs, and the SHA-256 of the images' pixels."""
    pairs, pixels = PairFeatures(len(context.datasets[split])), hashlib.sha256()
    for batch, _ in context.real_batches(split):
        pixels.update(batch["image"].tobytes())
        pairs.add(functions.encode(batch), batch["class_id"])
    return pairs, pixels.hexdigest()


def real_inception_stats(
    context: EvalContext, functions: CheckpointFunctions, split: str, pixels_sha256: str
) -> FeatureStats:
    """Inception features of a split's real images, from the cache if they are there."""

    def compute_features() -> Iterator[np.ndarray]:
        for batch, _ in context.real_batches(split):
            yield functions.inception(batch)["pooled"]

    recipe = context.inception.recipe | {"pixels": pixels_sha256}
    recipe["image_size"] = context.config.data.image_size
    return cached_stats(recipe, len(context.datasets[split]), compute_features)


def generated_features(
    context: EvalContext, functions: CheckpointFunctions, request: EvalRequest
) -> GeneratedFeatures:
    """Generates an image for each of `request.num` captions and collects its features."""
    generated = GeneratedFeatures(request.num, context.config.eval.splits)
    for batch, records in context.caption_batches(request.split, request.num):
        batch |= functions.generate(batch)
        generated.pairs.add(functions.encode(batch), batch["class_id"])
        generated.captions.add(np.asarray([record["caption"] for record in records], object))
        if functions.inception:
            features = functions.inception(batch)
            generated.inception.add(features["pooled"])
            generated.inception_score.add(features["logits"])
        if context.config.data.name == "toy_cars":
            for name, hits in attribute_hits(batch["image"], records).items():
                generated.attribute_hits.setdefault(name, []).extend(hits)
        if request.folder:
            save_images(batch, records, request.folder)
    return generated


def diversity_features(
    context: EvalContext, functions: CheckpointFunctions, request: EvalRequest
) -> np.ndarray:
    """Features of images that differ in their noise alone: f32[captions, images, D]."""
    num = min(_DIVERSITY_CAPTIONS, len(context.datasets[request.split]))
    batches = [batch for batch, _ in context.caption_batches(request.split, num)]
    # All rows in one call, since every call is padded to a whole batch.
    rows = {
        name: np.repeat(np.concatenate([batch[name] for batch in batches]), _DIVERSITY_IMAGES, 0)
        for name in batches[0]
    }
    # Numbers, and so noise, that no scored image has.
    rows["number"] = request.num + np.arange(num * _DIVERSITY_IMAGES, dtype=np.int32)
    features = functions.image_features(rows | functions.generate(rows))
    return features.reshape(num, _DIVERSITY_IMAGES, features.shape[1])


def nearest_training_images(
    context: EvalContext, functions: CheckpointFunctions, *codes: np.ndarray
) -> list[Nearest]:
    """For each array of codes f32[N, E], the training images nearest to its rows."""
    found = [Nearest(queries) for queries in codes]
    for batch, records in context.real_batches("train"):
        encoded = functions.encode(batch)["code"]
        for nearest in found:
            nearest.add(encoded, [record["name"] for record in records])
    return found
