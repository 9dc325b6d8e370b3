"""The training image nearest to a generated one: does the generator copy?"""

from collections.abc import Sequence

import numpy as np


class Nearest:
    """For each query code, the nearest of many images that arrive in batches, by cosine.

    Attributes:
      distances: f64[N], 1 - cosine of each query and the nearest image so far; infinite at first.
    """

    def __init__(self, codes: np.ndarray) -> None:
        """Takes the query codes [N, E]."""
        self._queries = self._unit(codes)
        self.distances = np.full(len(codes), np.inf)
        self._names = np.full(len(codes), "", object)

    @property
    def names(self) -> list[str]:
        """Names of the nearest images; "" before the first batch."""
        return list(self._names)

    @staticmethod
    def _unit(codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes, np.float64)
        return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-8)

    def add(self, codes: np.ndarray, names: Sequence[str]) -> None:
        """Adds images by their codes [M, E] and names."""
        distances = 1 - self._queries @ self._unit(codes).T
        best = distances.argmin(1)
        distances = distances[np.arange(len(best)), best]
        nearer = distances < self.distances
        self.distances = np.where(nearer, distances, self.distances)
        self._names = np.where(nearer, np.asarray(names, object)[best], self._names)
