"""Skips the update of a network that would bring NaN or infinity into the training state."""

from typing import Any

import jax
import jax.numpy as jnp

from ssagan_jax.steps.state import TrainState

PyTree = Any


def all_finite(tree: PyTree) -> jax.Array:
    """bool: whether no array of a tree contains NaN or infinity."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def replace_if_finite(
    state: TrainState, updated: dict[str, PyTree], loss_and_gradients: PyTree
) -> tuple[TrainState, jax.Array]:
    """The state with updated fields, or unchanged if the update is not finite.

    Args:
      state: before the update.
      updated: new values of all fields of one network, by field name.
      loss_and_gradients: what the update was computed from. A gradient that is too large to be
        squared gives finite parameters but infinite optimizer moments, so both are checked.

    Returns:
      The state; and f32 1 if `updated` or `loss_and_gradients` has NaN or infinity, else 0.
    """
    finite = all_finite((updated, loss_and_gradients))
    current = {name: getattr(state, name) for name in updated}
    # Not jnp.where: XLA would fuse the whole of `finite` into each one and compile for minutes.
    selected = jax.lax.cond(finite, lambda: updated, lambda: current)
    return state.replace(**selected), 1 - finite.astype(jnp.float32)
