"""FID: Frechet distance of two Gaussians (Heusel et al. 2017, arXiv:1706.08500)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of feature rows, updated batch by batch without keeping the rows.

    Attributes:
      count: rows added so far.
      mean: f64[D].
      scatter: f64[D, D], the sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls) -> "Moments":
        """Moments of no rows; the first batch decides their size."""
        return cls(0, np.zeros(1), np.zeros((1, 1)))

    def add(self, features: np.ndarray) -> "Moments":
        """Moments with further rows [N, D], by the update of Chan, Golub and LeVeque (1979)."""
        rows = np.asarray(features, np.float64)
        if not len(rows):
            return self
        count, mean = self.count + len(rows), rows.mean(0)
        centred, shift = rows - mean, mean - self.mean
        between = np.outer(shift, shift * (self.count * len(rows) / count))
        return Moments(
            count,
            self.mean + shift * (len(rows) / count),
            self.scatter + centred.T @ centred + between,
        )

    @property
    def covariance(self) -> np.ndarray:
        """f64[D, D], unbiased like `numpy.cov`, as in pytorch-fid.

        Raises:
          ValueError: there are fewer than 2 rows.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} rows have no covariance; give 2 or more")
        return self.scatter / (self.count - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the formula of pytorch-fid.

    The trace of the root equals that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric. So it
    needs no offset on the diagonal when there are fewer rows than dimensions, and rounding cannot
    make it complex. Features that are not finite, as after a divergence, give NaN.
    """
    if not all(np.isfinite(moments.scatter).all() for moments in (first, second)):
        return float("nan")
    shift = first.mean - second.mean
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ second.covariance @ root)
    cross = np.sqrt(np.maximum(product, 0)).sum()
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return float(shift @ shift + traces - 2 * cross)
