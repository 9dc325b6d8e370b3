"""The training image nearest to a generated one: does the generator copy?"""

from collections.abc import Sequence

import numpy as np

from ssagan_jax.metrics.retrieval import unit_rows


class Nearest:
    """For each query code, the nearest of many images that arrive in batches, by cosine.

    Attributes:
      distances: f64[N], 1 - cosine of each query and the nearest image so far; infinite at first.
      names: of the nearest images; "" before the first batch.
    """

    def __init__(self, codes: np.ndarray) -> None:
        """Takes the query codes [N, E]."""
        self._queries = unit_rows(codes)
        self.distances = np.full(len(codes), np.inf)
        self.names = np.full(len(codes), "", object)

    def add(self, codes: np.ndarray, names: Sequence[str]) -> None:
        """Adds images by their codes [M, E] and names."""
        distances = 1 - self._queries @ unit_rows(codes).T
        best = distances.argmin(1)
        distances = distances[np.arange(len(best)), best]
        nearer = distances < self.distances
        self.distances = np.where(nearer, distances, self.distances)
        self.names = np.where(nearer, np.asarray(names, object)[best], self.names)
