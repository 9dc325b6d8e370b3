"""The features of one side, real or generated: their moments, and as many of them as are kept."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ssagan_jax.distributed import all_processes_have
from ssagan_jax.metrics.features import FeatureSubset
from ssagan_jax.metrics.fid import Moments
from ssagan_jax.metrics.inception_weights import cache_folder

# Bounds memory (80 MB of 2048 features) and the time of scores that compare all with all.
MAX_FEATURES = 10_000


class FeatureStats:
    """Moments of the features of `num` pictures, and at most KEPT of the features themselves.

    Attributes:
      num: pictures.
      moments: of all that came so far.
    """

    def __init__(self, num: int) -> None:
        self.num = num
        self.moments = Moments.empty()
        self._kept = FeatureSubset(num, MAX_FEATURES)

    def add(self, features: np.ndarray) -> None:
        """Takes the features f32[B, D] of the next pictures."""
        self.moments = self.moments.add(features)
        self._kept.add(features)

    @property
    def features(self) -> np.ndarray:
        """Those that were kept, spread evenly over the pictures: f32[K, D]."""
        return self._kept.rows()

    def save(self, file: Path) -> None:
        """Writes all of it, or nothing."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.part")
        with open(partial, "wb") as out:
            moments = self.moments
            np.savez(out, mean=moments.mean, scatter=moments.scatter, features=self.features)
        partial.replace(file)

    @classmethod
    def load(cls, file: Path, num: int) -> "FeatureStats":
        """What `save` wrote of `num` pictures."""
        side = cls(num)
        with np.load(file) as saved:
            side.moments = Moments(num, saved["mean"], saved["scatter"])
            features = saved["features"]
        side._kept = FeatureSubset(len(features), MAX_FEATURES)
        side._kept.add(features)
        return side


def cached_stats(
    recipe: dict[str, Any], num: int, parts: Callable[[], Iterable[np.ndarray]]
) -> FeatureStats:
    """The side of `num` real pictures, read from the cache, or else computed and put there.

    Args:
      recipe: all that decides the features: the data's hash, the weights' hash, how they are taken.
      num: pictures.
      parts: gives the features of all pictures, part by part.
    """
    key = hashlib.sha256(
        json.dumps([recipe, num, MAX_FEATURES], sort_keys=True).encode()
    ).hexdigest()
    file = cache_folder() / "statistics" / f"{key[:32]}.npz"
    # The features are computed by all processes together, so by all or by none.
    if all_processes_have(file.exists()):
        return FeatureStats.load(file, num)
    side = FeatureStats(num)
    for features in parts():
        side.add(features)
    # A cache that cannot be written costs time alone.
    with contextlib.suppress(OSError):
        side.save(file)
    return side
