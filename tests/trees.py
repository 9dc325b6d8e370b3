"""Changes to trees of parameters, for comparisons."""

import jax
import numpy as np


def randomize_zeros(tree, seed):
    """Noise in place of zeros, which hide gradients: gains and text weights start at 0."""
    rng, (leaves, structure) = np.random.default_rng(seed), jax.tree.flatten(tree)
    noisy = [np.where(x == 0, rng.normal(0, 0.3, x.shape).astype(x.dtype), x) for x in leaves]
    return jax.tree.unflatten(structure, noisy)


def to_float64(tree):
    """Casts float32 to float64."""
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, tree)
