"""Inception statistics of real images, computed once and cached on disk."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ssagan_jax.distributed import all_processes_have
from ssagan_jax.metrics.features import MAX_FEATURES, FeatureStats
from ssagan_jax.metrics.inception_weights import cache_folder


def cached_stats(
    recipe: dict[str, Any], num: int, compute_features: Callable[[], Iterable[np.ndarray]]
) -> FeatureStats:
    """Statistics of `num` real images, read from the cache or else computed and stored there.

    Args:
      recipe: all that determines the features: hashes of data and weights, resizing, value range.
      num: images.
      compute_features: returns the features f32[B, D] of all images, batch by batch.
    """
    key = json.dumps([recipe, num, MAX_FEATURES], sort_keys=True).encode()
    path = cache_folder() / "statistics" / f"{hashlib.sha256(key).hexdigest()[:32]}.npz"
    # All processes compute the features together, so either all read the cache or none does.
    if all_processes_have(path.exists()):
        return FeatureStats.load(path, num)
    stats = FeatureStats(num)
    for features in compute_features():
        stats.add(features)
    # Without a writable cache the statistics are only computed again next time.
    with contextlib.suppress(OSError):
        stats.save(path)
    return stats
