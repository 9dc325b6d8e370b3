"""Exponential moving average (EMA) of the generator's weights."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any


def update_ema(ema: PyTree, variables: PyTree, updates: jax.Array, max_decay: float) -> PyTree:
    """The average after one more update of the generator.

    Args:
      ema: {"params", "batch_stats"}, averages of the generator's variables.
      variables: the generator's variables after the update, in the same form.
      updates: i32, updates of the generator before this one. The decay warms up as
        (1 + updates) / (10 + updates), so that the initial weights are soon forgotten.
      max_decay: upper bound of the decay, in (0, 1).
    """
    decay = jnp.minimum(max_decay, (1 + updates) / (10 + updates))
    return optax.incremental_update(variables, ema, 1 - decay)
