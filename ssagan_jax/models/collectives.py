"""Rows of the global batch across the devices of a mapped axis."""

import jax
from jax import lax


def axis_size(axis_name: str | None) -> int:
    """Number of devices on a mapped axis; 1 outside of one."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def local_shard(global_rows: jax.Array, axis_name: str | None) -> jax.Array:
    """This device's rows [B / devices, ...] of an array [B, ...] that every device holds whole."""
    if axis_name is None:
        return global_rows
    rows = global_rows.shape[0] // lax.axis_size(axis_name)
    return lax.dynamic_slice_in_dim(global_rows, lax.axis_index(axis_name) * rows, rows)


def all_gather_rows(rows: jax.Array, axis_name: str | None) -> jax.Array:
    """The global batch [B, ...] from every device's rows [B / devices, ...]."""
    return rows if axis_name is None else lax.all_gather(rows, axis_name, tiled=True)
