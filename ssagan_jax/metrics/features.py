"""Networks that features are read from, and what is kept of a stream of features."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """A network that features are read from.

    Attributes:
      apply: (variables, images u8[b, S, S, 3]) to features by the name of the tap, each f32[b, D].
      variables: its weights.
      recipe: what a reader needs to take the same features: "features" (the network's name),
        "weights_sha256", "resize" and "value_range".
      taps: what the taps are called in a recipe.
    """

    apply: Callable[[Any, jax.Array], dict[str, jax.Array]]
    variables: Any
    recipe: dict[str, Any]
    taps: dict[str, str]

    def rows(self, variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """`apply` to rows of "image", as `parallel_rows` wants it."""
        return self.apply(variables, rows["image"])

    def recipe_of(self, tap: str) -> dict[str, Any]:
        """The recipe of one tap's features."""
        return self.recipe | {"features": f"{self.recipe['features']}/{self.taps[tap]}"}


class FeatureSubset:
    """At most `limit` rows out of `num` that come in parts, spread evenly over them."""

    def __init__(self, num: int, limit: int) -> None:
        """Keeps every row where there are no more than `limit`."""
        self._wanted = np.arange(min(num, limit)) * num // max(min(num, limit), 1)
        self._seen = 0
        self._parts: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Takes the next rows [N, ...]."""
        places = self._wanted - self._seen
        self._parts.append(rows[places[(places >= 0) & (places < len(rows))]])
        self._seen += len(rows)

    def rows(self) -> np.ndarray:
        """Those that were kept, in order."""
        return np.concatenate(self._parts)


def tree_sha256(variables: Any) -> str:
    """SHA-256 of weights: their names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()
