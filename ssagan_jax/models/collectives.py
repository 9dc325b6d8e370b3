"""The global batch across the devices of a mapped axis; None stands for no axis, one device."""

from typing import Any

import jax
from jax import lax


def axis_size(axis_name: str | None) -> int:
    """Number of devices on the axis."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def local_shard(global_rows: jax.Array, axis_name: str | None) -> jax.Array:
    """This device's rows [B / devices, ...] of an array [B, ...] that each device has in full."""
    if axis_name is None:
        return global_rows
    rows = global_rows.shape[0] // lax.axis_size(axis_name)
    return lax.dynamic_slice_in_dim(global_rows, lax.axis_index(axis_name) * rows, rows)


def all_gather_rows(rows: jax.Array, axis_name: str | None) -> jax.Array:
    """The global batch [B, ...] from the rows [B / devices, ...] of each device."""
    return rows if axis_name is None else lax.all_gather(rows, axis_name, tiled=True)


def mean_across_devices(tree: Any, axis_name: str | None) -> Any:
    """Means of the arrays of a tree over the devices."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)
