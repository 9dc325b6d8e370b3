"""Weights and inputs computed from their names, and short sketches of large arrays.

The reference's networks and ours get the same numbers without a file of them, and only sketches of
their outputs are stored.
"""

import zlib

import numpy as np

PROJECTIONS = 16


def _draws(name: str) -> np.random.RandomState:
    # RandomState, not a Generator: numpy guarantees that its streams never change.
    return np.random.RandomState(zlib.crc32(name.encode()))


def normal(name: str, *shape: int) -> np.ndarray:
    """Standard normal f64 of a shape, the same for the same name."""
    return _draws(name).standard_normal(shape)


def integers(name: str, high: int, *shape: int) -> np.ndarray:
    """Integers in [0, high)."""
    return _draws(name).randint(0, high, shape)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of a PyTorch state dict, scaled so that signals neither vanish nor explode.

    Values are representable in float32, so that they are the same in both precisions.
    """
    draws = normal(name, *shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        values = 1 + 0.5 * np.tanh(draws)
    elif len(shape) > 1:
        values = draws / np.prod(shape[1:]) ** 0.5
    else:
        # Residual gains and the scales of batch norms; all others are biases and running means.
        centre = 0.5 if name.endswith("gamma") else 1.0 if name.endswith(".weight") else 0.0
        values = centre + 0.1 * draws
    return values.astype(np.float32).astype(np.float64)


def sketch(values: np.ndarray) -> np.ndarray:
    """f64[16] whose distances estimate those of the arrays, with an error of about a quarter.

    Random projections of the flattened array (Johnson and Lindenstrauss); up to 16 numbers are
    returned unchanged.
    """
    flat = np.asarray(values, np.float64).ravel()
    if flat.size <= PROJECTIONS:
        return flat
    draws = _draws(f"sketch of {flat.size}")
    signs = (draws.randint(0, 2, flat.size) * 2 - 1 for _ in range(PROJECTIONS))
    return np.array([sign @ flat for sign in signs]) / PROJECTIONS**0.5
