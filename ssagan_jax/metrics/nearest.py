"""The training picture nearest to a generated one: does the generator copy?"""

from collections.abc import Sequence

import numpy as np


class Nearest:
    """The nearest of many pictures that come in parts, for some codes, by cosine.

    Attributes:
      distances: f64[N], 1 - cosine of each code and the nearest one so far; infinite before.
    """

    def __init__(self, codes: np.ndarray) -> None:
        """Looks for the nearest ones to `codes` [N, E]."""
        self._codes = self._unit(codes)
        self.distances = np.full(len(codes), np.inf)
        self._names = np.full(len(codes), "", object)

    @property
    def names(self) -> list[str]:
        """Of those nearest pictures, "" where none came yet."""
        return list(self._names)

    @staticmethod
    def _unit(codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes, np.float64)
        return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-8)

    def add(self, codes: np.ndarray, names: Sequence[str]) -> None:
        """Takes codes [M, E] of further pictures and their names."""
        distances = 1 - self._codes @ self._unit(codes).T
        best = distances.argmin(1)
        distances = distances[np.arange(len(best)), best]
        nearer = distances < self.distances
        self.distances = np.where(nearer, distances, self.distances)
        self._names = np.where(nearer, np.asarray(names, object)[best], self._names)
