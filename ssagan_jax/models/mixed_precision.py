"""Mixed precision: casts between the compute dtype of activations and float32."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def to_compute_dtype(values: jax.Array, dtype: DTypeLike | None) -> jax.Array:
    """Casts to the dtype of activations; None: no cast."""
    return values if dtype is None else values.astype(dtype)


def to_float32(values: jax.Array) -> jax.Array:
    """Casts to float32, or keeps float64: for sums over many values and for losses."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
