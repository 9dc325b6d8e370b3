"""Exponential moving average (EMA) of the generator's weights."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

PyTree = Any


def has_ema(config: ConfigDict) -> bool:
    """Whether a run averages the generator's weights, and generates images with the average."""
    return config.train.ema_decay > 0 or config.train.ema_half_life > 0


def ema_decay(config: ConfigDict, updates: jax.Array) -> jax.Array:
    """The decay f32[] of the average in one update of the generator.

    With `config.train.ema_half_life` it is that of StyleGAN2-ADA (Karras et al. 2020): the weight
    of an update halves in so many images, but at most in `config.train.ema_rampup` times those
    seen so far. Else it is `config.train.ema_decay`, with a warmup of (1 + updates) / (10 +
    updates). Either way the initial weights are soon forgotten. Those of `config.train.checkpoint`
    are not: the decay is then the final one from the first update on.

    Args:
      config: with at least one of both keys above 0.
      updates: i32[], updates of the generator before this one.
    """
    train = config.train
    if not train.ema_half_life:
        warmup = 1.0 if train.checkpoint else (1 + updates) / (10 + updates)
        return jnp.minimum(train.ema_decay, warmup)
    half_life = train.ema_half_life
    if train.ema_rampup and not train.checkpoint:
        seen = train.batch_size * updates.astype(jnp.float32)
        half_life = jnp.clip(train.ema_rampup * seen, 1e-8, half_life)
    return jnp.exp2(-train.batch_size / half_life)


def update_ema(ema: PyTree, variables: PyTree, decay: jax.Array) -> PyTree:
    """The average after one more update of the generator.

    Args:
      ema: {"params", "batch_stats"}, averages of the generator's variables.
      variables: the generator's variables after the update, in the same form.
      decay: f32[], weight of the old average.
    """
    return optax.incremental_update(variables, ema, 1 - decay)
