"""Trees of arrays, changed for a comparison."""

import jax
import numpy as np


def awake(tree, seed):
    """A tree with noise where zeros would hide a gradient: gains and text weights begin there."""
    rng, (leaves, structure) = np.random.default_rng(seed), jax.tree.flatten(tree)
    noisy = [np.where(x == 0, rng.normal(0, 0.3, x.shape).astype(x.dtype), x) for x in leaves]
    return jax.tree.unflatten(structure, noisy)


def doubled(tree):
    """float32 as float64."""
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, tree)
