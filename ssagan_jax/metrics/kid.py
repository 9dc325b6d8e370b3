"""Kernel Inception Distance (Binkowski et al. 2018, arXiv:1801.01401, section 4)."""

import numpy as np

SUBSETS, SUBSET_SIZE = 100, 1000
_SEED = 2020  # as in torch-fidelity, to draw the same subsets


def _polynomial_kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(x.y / D + 1)^3 of rows [N, D] and [M, D]: f64[N, M]."""
    first, second = (np.asarray(rows, np.float64) for rows in (first, second))
    return (first @ second.T / first.shape[1] + 1) ** 3


def mmd2(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased estimate of MMD^2 (Gretton et al. 2012, eq. 3) of rows [M, D] and [M, D]."""
    size = len(first)
    within = 0.0
    for rows in (first, second):
        kernel = _polynomial_kernel(rows, rows)
        within += (kernel.sum() - np.trace(kernel)) / (size * (size - 1))
    return float(within - 2 * _polynomial_kernel(first, second).mean())


def subset_size(*counts: int) -> int:
    """Rows of a subset: 1000, or half of the smallest count if that is below 1000.

    Subsets of all rows would be equal, and their standard deviation would be meaningless.
    """
    fewest = min(counts)
    return SUBSET_SIZE if fewest >= SUBSET_SIZE else fewest // 2


def kernel_inception_distance(
    generated: np.ndarray, real: np.ndarray, subsets: int = SUBSETS, size: int = 0
) -> tuple[float, float]:
    """KID: mean and standard deviation of MMD^2 over random subsets of both arrays.

    Args:
      generated: features [N, D].
      real: features [M, D].
      subsets: number of subsets.
      size: rows of a subset; 0 for `subset_size` of both counts.

    Raises:
      ValueError: an array has too few rows.
    """
    size = size or subset_size(len(generated), len(real))
    rows = min(len(generated), len(real))
    if not 2 <= size <= rows:
        raise ValueError(f"size={size}: must be 2 to {rows} rows, the smaller count")
    random = np.random.RandomState(_SEED)
    values = [
        mmd2(*(x[random.choice(len(x), size, replace=False)] for x in (generated, real)))
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))
