"""Casts between the compute dtype of activations and float32."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def to_compute_dtype(values: jax.Array, dtype: DTypeLike | None) -> jax.Array:
    """Values in the type of activations; None: as they are."""
    return values if dtype is None else values.astype(dtype)


def to_float32(values: jax.Array) -> jax.Array:
    """Values in float32 at least, for sums of many and for what a loss is made of."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
