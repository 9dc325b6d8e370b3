"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, section 2)."""

import numpy as np

NEIGHBORS = 3
_BLOCK = 1000


def precision_recall(
    generated: np.ndarray, real: np.ndarray, neighbors: int = NEIGHBORS
) -> tuple[float, float]:
    """Precision and recall, both in [0, 1].

    Precision is the share of generated rows on the manifold of the real ones, recall the share of
    real rows on the manifold of the generated ones. The manifold is a union of balls: each row is
    the center of one that reaches to its k-th nearest neighbor. Distances are computed in blocks.

    Args:
      generated: features [N, D].
      real: features [M, D].
      neighbors: k; reduced if an array has no more than k rows.

    Raises:
      ValueError: an array has fewer than 2 rows.
    """
    if min(len(generated), len(real)) < 2:
        raise ValueError(f"{len(generated)} and {len(real)} rows; give 2 or more of each")
    generated, real = (np.asarray(rows, np.float64) for rows in (generated, real))
    precision = _share_on_manifold(generated, real, _radii(real, neighbors))
    return precision, _share_on_manifold(real, generated, _radii(generated, neighbors))


def _squared_distances(block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """f64[B, N], non-negative; equal rows are 0 up to rounding."""
    lengths = (block**2).sum(1)[:, None] + (rows**2).sum(1)[None]
    return np.maximum(lengths - 2 * block @ rows.T, 0)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]


def _radii(rows: np.ndarray, neighbors: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest neighbor: f64[N]."""
    k = min(neighbors, len(rows) - 1)  # index 0 is the row itself
    radii = [np.partition(_squared_distances(block, rows), k)[:, k] for block in _blocks(rows)]
    return np.concatenate(radii)


def _share_on_manifold(rows: np.ndarray, centers: np.ndarray, radii: np.ndarray) -> float:
    inside = [(_squared_distances(block, centers) <= radii[None]).any(1) for block in _blocks(rows)]
    return float(np.concatenate(inside).mean())
