"""The optimizers of a run, and how one is applied."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """One optimizer for each network, and two for the encoders together.

    Each takes the gradient of all parameters as one vector, and has its moments so: a step of some
    large operations, and one transfer between devices, instead of one for each array.

    Attributes:
      damsm: of both encoders in stage 1.
      encoders: of both encoders in stage 2.
      generator: of the generator.
      discriminator: of the discriminator.
    """

    damsm: optax.GradientTransformation
    encoders: optax.GradientTransformation
    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation


def build_optimizers(config: ConfigDict, damsm_steps: int) -> Optimizers:
    """Adam for each network; in stage 1 with warmup, decay and clipped gradients.

    Args:
      config: the run's configuration.
      damsm_steps: steps of stage 1. Its learning rate warms up linearly, then decays along a cosine
        to the encoders' rate of stage 2.
    """
    train, damsm = config.train, config.damsm

    def adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(rate, b1=train.b1, b2=train.b2))

    warmup = min(damsm.warmup_steps, damsm_steps // 2)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, damsm.learning_rate, warmup, max(damsm_steps, 1), train.encoder_learning_rate
    )
    # A chain over a schedule as in stage 1, so that the state has the same tree in both stages.
    constant = optax.constant_schedule(train.encoder_learning_rate)
    clip = optax.clip_by_global_norm(damsm.clip_norm)
    return Optimizers(
        damsm=optax.flatten(optax.chain(clip, optax.adam(rate, b1=damsm.b1, b2=damsm.b2))),
        encoders=optax.chain(optax.identity(), adam(constant)),
        generator=adam(config.generator.learning_rate),
        discriminator=adam(config.discriminator.learning_rate),
    )


def ravel(tree: PyTree) -> jax.Array:
    """All arrays of a tree as one vector."""
    return ravel_pytree(tree)[0]


def global_norm(tree: PyTree) -> jax.Array:
    """The norm f32[] of all arrays together, on CPUs faster than by `optax.global_norm`."""
    squares = (jnp.vdot(leaf, leaf, precision="highest") for leaf in jax.tree.leaves(tree))
    return jnp.sqrt(sum(squares))


def apply_optimizer(
    optimizer: optax.GradientTransformation, gradient: jax.Array, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree, jax.Array]:
    """Parameters and optimizer state after one update; and the update as a vector."""
    update, opt_state = optimizer.update(gradient, opt_state)
    _, unflatten = ravel_pytree(params)
    return optax.apply_updates(params, unflatten(update)), opt_state, update
