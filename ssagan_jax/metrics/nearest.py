"""The training picture nearest to a generated one: does the generator copy?"""

from collections.abc import Sequence

import numpy as np


class Nearest:
    """The nearest of many pictures that come in parts, for some codes, by cosine.

    Attributes:
      distances: f64[N], 1 - cosine of each code and the nearest one so far; infinite before.
      names: of those nearest pictures, "" before.
    """

    def __init__(self, codes: np.ndarray) -> None:
        """Looks for the nearest ones to `codes` [N, E]."""
        self._codes = self._unit(codes)
        self.distances = np.full(len(codes), np.inf)
        self.names = [""] * len(codes)

    @staticmethod
    def _unit(codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes, np.float64)
        return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-8)

    def add(self, codes: np.ndarray, names: Sequence[str]) -> None:
        """Takes codes [M, E] of further pictures and their names."""
        distances = 1 - self._codes @ self._unit(codes).T
        best = distances.argmin(1)
        for row, column in enumerate(best):
            if distances[row, column] < self.distances[row]:
                self.distances[row] = distances[row, column]
                self.names[row] = names[column]
