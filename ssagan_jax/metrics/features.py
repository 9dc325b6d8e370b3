"""Networks that features are read from, and what is kept of a stream of features."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ssagan_jax.atomic_files import atomic_path
from ssagan_jax.metrics.fid import Moments

# Bounds memory (80 MB of 2048 features) and the time of scores that compare all pairs of rows.
MAX_FEATURES = 10_000


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """A network that features are read from.

    Attributes:
      apply: (variables, images u8[B, S, S, 3]) to features by output name, each f32[B, D].
      variables: its weights.
      recipe: what a reader needs to compute the same features: "features" (the network's name),
        "weights_sha256", "resize" and "value_range".
      outputs: by output name, the name of the features in a recipe.
    """

    apply: Callable[[Any, jax.Array], dict[str, jax.Array]]
    variables: Any
    recipe: dict[str, Any]
    outputs: dict[str, str]

    def rows(self, variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`apply` to rows of "image", in the form that `pmap_batched` maps."""
        return self.apply(variables, rows["image"])

    def recipe_of(self, output: str) -> dict[str, Any]:
        """The recipe of one output's features."""
        return self.recipe | {"features": f"{self.recipe['features']}/{self.outputs[output]}"}


class FeatureSubset:
    """At most `limit` of `num` rows that arrive in batches, spread evenly over them."""

    def __init__(self, num: int, limit: int = MAX_FEATURES) -> None:
        """Keeps every row if `num` is not above `limit`."""
        kept = min(num, limit)
        self._indices = np.arange(kept) * num // max(kept, 1)
        self._count = 0
        self._batches: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Adds the next rows [N, ...]."""
        indices = self._indices - self._count
        self._batches.append(rows[indices[(indices >= 0) & (indices < len(rows))]])
        self._count += len(rows)

    def rows(self) -> np.ndarray:
        """The rows that were kept, in order."""
        return np.concatenate(self._batches)


class FeatureStats:
    """Moments of the features of `num` images, and at most MAX_FEATURES of the features."""

    def __init__(self, num: int) -> None:
        self.moments = Moments.empty()
        self._subset = FeatureSubset(num)

    def add(self, features: np.ndarray) -> None:
        """Adds the features f32[B, D] of the next images."""
        self.moments = self.moments.add(features)
        self._subset.add(features)

    @property
    def features(self) -> np.ndarray:
        """The features that were kept, spread evenly over the images: f32[K, D]."""
        return self._subset.rows()

    def save(self, path: Path) -> None:
        """Writes an .npz file atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            mean, scatter = self.moments.mean, self.moments.scatter
            np.savez(file, mean=mean, scatter=scatter, features=self.features)

    @classmethod
    def load(cls, path: Path, num: int) -> "FeatureStats":
        """Reads what `save` wrote for `num` images."""
        with np.load(path) as saved:
            stats = cls(len(saved["features"]))
            stats.moments = Moments(num, saved["mean"], saved["scatter"])
            stats._subset.add(saved["features"])
        return stats


def tree_sha256(variables: Any) -> str:
    """SHA-256 of weights: their names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()
