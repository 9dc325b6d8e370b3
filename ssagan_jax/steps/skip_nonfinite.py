"""Skips the update of a network that would bring NaN or infinity into the training state."""

from typing import Any

import jax
import jax.numpy as jnp

from ssagan_jax.steps.optimizers import global_norm
from ssagan_jax.steps.state import TrainState

PyTree = Any


def replace_if_finite(
    state: TrainState, updated: dict[str, PyTree], loss: jax.Array, checked: PyTree
) -> tuple[TrainState, jax.Array]:
    """The state with updated fields, or unchanged if the update is not finite.

    Args:
      state: before the update.
      updated: new values of all fields of one network, by field name.
      loss: f32[], the sum of all losses.
      checked: gradients, updates of parameters, and all updated fields that do not follow from
        these. The update is finite if the loss and the norm of these are, so that no square may
        overflow, either: then parameters, Adam's moments and the EMA are finite, too.

    Returns:
      The state; and f32 1 if the update is not finite, else 0.
    """
    finite = jnp.isfinite(loss + global_norm(checked))
    selected = {
        name: jax.tree.map(lambda new, old: jnp.where(finite, new, old), tree, getattr(state, name))
        for name, tree in updated.items()
    }
    return state.replace(**selected), 1 - finite.astype(jnp.float32)
