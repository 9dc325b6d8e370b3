"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, section 2)."""

import numpy as np

NEIGHBORS = 3
_BLOCK = 1000


def precision_recall(
    generated: np.ndarray, real: np.ndarray, neighbors: int = NEIGHBORS
) -> tuple[float, float]:
    """Shares of generated rows among the real ones, and of real rows among the generated ones.

    A row is among others if it lies in the ball around one of them that reaches to its
    `neighbors`-th nearest fellow. Distances are taken block by block.

    Args:
      generated: features [N, D].
      real: features [M, D].
      neighbors: k; fewer where a side has no more than k rows.

    Raises:
      ValueError: a side has fewer than 2 rows.
    """
    if min(len(generated), len(real)) < 2:
        raise ValueError(f"{len(generated)} and {len(real)} rows; give 2 or more on both sides")
    generated, real = (np.asarray(rows, np.float64) for rows in (generated, real))
    precision = _share_inside(generated, real, _radii(real, neighbors))
    return precision, _share_inside(real, generated, _radii(generated, neighbors))


def _squared_distances(block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """f64[B, N]; at worst rounding away from 0 where rows are the same."""
    lengths = (block**2).sum(1)[:, None] + (rows**2).sum(1)[None]
    return np.maximum(lengths - 2 * block @ rows.T, 0)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]


def _radii(rows: np.ndarray, neighbors: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other one: f64[N]."""
    place = min(neighbors, len(rows) - 1)  # place 0 is the row itself
    parts = [
        np.partition(_squared_distances(block, rows), place)[:, place] for block in _blocks(rows)
    ]
    return np.concatenate(parts)


def _share_inside(rows: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    inside = [(_squared_distances(block, centres) <= radii[None]).any(1) for block in _blocks(rows)]
    return float(np.concatenate(inside).mean())
