"""The passes over real and generated pictures that the scores of one state are taken from."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ssagan_jax.data.pipeline import Batch, Record
from ssagan_jax.evaluation.encoder_features import encoder_variables
from ssagan_jax.evaluation.eval_functions import EvalFunctions
from ssagan_jax.evaluation.feature_statistics import MAX_FEATURES, FeatureStats, cached_stats
from ssagan_jax.evaluation.generated_images import generation_inputs
from ssagan_jax.evaluation.toy_car_attributes import attribute_hits
from ssagan_jax.metrics.features import FeatureSubset
from ssagan_jax.metrics.inception_score import InceptionScore
from ssagan_jax.metrics.nearest import Nearest
from ssagan_jax.steps.pmap import replicate
from ssagan_jax.steps.state import TrainState

_CAPTIONS, _PICTURES = 8, 8  # of the diversity: captions, and pictures of each


@dataclasses.dataclass(frozen=True)
class EvalRequest:
    """What to score.

    Attributes:
      split: whose captions and real pictures, "train" or "validation".
      num: generated pictures; 0: as many as the config or else the split has.
      seed: of the noise.
      folder: where generated pictures are written, nowhere where None.
    """

    split: str = "validation"
    num: int = 0
    seed: int = 0
    folder: Path | None = None


class Pairs:
    """Pictures and their captions as the run's encoders see them."""

    def __init__(self, num: int) -> None:
        self.codes = FeatureStats(num)
        self.sentences, self.class_ids = (
            FeatureSubset(num, MAX_FEATURES),
            FeatureSubset(num, MAX_FEATURES),
        )

    def add(self, embedded: Batch, class_ids: np.ndarray) -> None:
        """Takes code f32[B, E] and sentence f32[B, E] of the next pairs, and their classes."""
        self.codes.add(embedded["code"])
        self.sentences.add(embedded["sentence"])
        self.class_ids.add(class_ids)


class GeneratedFeatures:
    """What is kept of the generated pictures.

    Attributes:
      pairs: the pictures and the captions that they were painted from.
      inception: their features.
      predictions: the classifier's.
      captions: those of the kept pictures.
      hits: by attribute of toy cars, whether each picture shows what its caption names.
    """

    def __init__(self, num: int, splits: int) -> None:
        self.pairs = Pairs(num)
        self.inception = FeatureStats(num)
        self.predictions = InceptionScore(num, min(splits, num))
        self.captions = FeatureSubset(num, MAX_FEATURES)
        self.hits: dict[str, list[bool]] = {}


class FeaturePasses:
    """The passes for one state, which lies on all devices."""

    def __init__(self, tools: EvalFunctions, state: TrainState, request: EvalRequest) -> None:
        self._tools, self._request = tools, request
        self._encoders = encoder_variables(state)
        self._painting = generation_inputs(state, request.seed)
        self._inception = replicate(tools.inception.variables) if tools.inception else None

    def real(self) -> tuple[Pairs, str]:
        """The split's real pairs, and the SHA-256 of the pictures' pixels."""
        split = self._request.split
        pairs, pixels = Pairs(len(self._tools.pictures[split])), hashlib.sha256()
        for batch, _ in self._tools.real_batches(split):
            pixels.update(batch["image"].tobytes())
            pairs.add(self._tools.encode(self._encoders, batch), batch["class_id"])
        return pairs, pixels.hexdigest()

    def real_inception(self, num: int, sha256: str) -> FeatureStats:
        """Inception features of the split's real pictures, whose pixels have that SHA-256."""

        def features() -> Iterator[np.ndarray]:
            for batch, _ in self._tools.real_batches(self._request.split):
                yield self._tools.look(self._inception, {"image": batch["image"]})["pooled"]

        size = self._tools.config.data.image_size
        recipe = self._tools.inception.recipe | {"pixels": sha256, "image_size": size}
        return cached_stats(recipe, num, features)

    def painted(self) -> GeneratedFeatures:
        """One generated picture for each caption asked for."""
        request, tools = self._request, self._tools
        painted = GeneratedFeatures(request.num, tools.config.eval.splits)
        for batch, records in tools.caption_batches(request.split, request.num):
            images = tools.paint(self._painting, batch)["image"]
            embedded = tools.encode(self._encoders, batch | {"image": images})
            painted.pairs.add(embedded, batch["class_id"])
            painted.captions.add(np.asarray([record["caption"] for record in records], object))
            if tools.inception:
                seen = tools.look(self._inception, {"image": images})
                painted.inception.add(seen["pooled"])
                painted.predictions.add(seen["logits"])
            if tools.config.data.name == "toy_cars":
                for name, hits in attribute_hits(images, records).items():
                    painted.hits.setdefault(name, []).extend(hits)
            if request.folder:
                _write(images, batch, records, request.folder)
        return painted

    def alike(self) -> np.ndarray:
        """Features of pictures that differ in noise alone: f32[captions, pictures, D]."""
        num = min(_CAPTIONS, len(self._tools.pictures[self._request.split]))
        batches = [batch for batch, _ in self._tools.caption_batches(self._request.split, num)]
        # In one go: what a device sees is filled up to a whole batch.
        rows = {
            name: np.repeat(np.concatenate([batch[name] for batch in batches]), _PICTURES, 0)
            for name in batches[0]
        }
        # Noise of its own: a scored picture's would show in both.
        rows["number"] = self._request.num + np.arange(num * _PICTURES, dtype=np.int32)
        features = self._features(rows)
        return features.reshape(num, _PICTURES, features.shape[1])

    def _features(self, batch: Batch) -> np.ndarray:
        images = self._tools.paint(self._painting, batch)["image"]
        if self._tools.inception:
            return self._tools.look(self._inception, {"image": images})["pooled"]
        return self._tools.encode(self._encoders, batch | {"image": images})["code"]

    def nearest(self, *codes: np.ndarray) -> list[Nearest]:
        """The nearest training picture of each code, by set of codes."""
        nearest = [Nearest(part) for part in codes]
        for batch, records in self._tools.real_batches("train"):
            found = self._tools.encode(self._encoders, batch)["code"]
            for part in nearest:
                part.add(found, [record["name"] for record in records])
        return nearest


def _write(images: np.ndarray, batch: Batch, records: list[Record], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image, number, record in zip(images, batch["number"], records, strict=True):
        Image.fromarray(image).save(folder / f"{number:06d}.png")
        (folder / f"{number:06d}.txt").write_text(record["caption"] + "\n", encoding="utf-8")
