"""One update of a network, which is left out where it would bring in NaN or infinity."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ssagan_jax.steps.state import TrainState

PyTree = Any


def apply_optimizer(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """Parameters and the optimizer's state behind one update."""
    updates, opt = optimizer.update(gradient, opt)
    return optax.apply_updates(params, updates), opt


def all_finite(tree: PyTree) -> jax.Array:
    """bool: whether no tensor of a tree holds NaN or infinity."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def replace_if_finite(
    state: TrainState, fresh: dict[str, PyTree], evidence: PyTree
) -> tuple[TrainState, jax.Array]:
    """The state with fresh fields, or with its own ones where the fresh are not to be trusted.

    Args:
      state: before the update.
      fresh: fields of the state by name, as the update leaves them: all of one network.
      evidence: what they came from, loss and gradients. A gradient too large to be squared leaves
        parameters finite and an optimizer's state that is not, so both are looked at.

    Returns:
      The state, and f32 1 where NaN or infinity is in `fresh` or `evidence`, else 0.
    """
    good = all_finite((fresh, evidence))
    before = {name: getattr(state, name) for name in fresh}
    # Not jnp.where, into each of which XLA would fuse the whole of `good`: minutes to compile.
    kept = jax.lax.cond(good, lambda: fresh, lambda: before)
    return state.replace(**kept), 1 - good.astype(jnp.float32)
