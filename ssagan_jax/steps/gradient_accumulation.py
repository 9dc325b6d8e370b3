"""Gradient accumulation: the rows of a step worked off in parts, for the memory of one part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any


def accumulate_microbatches(
    function: Callable[[PyTree, PyTree, Any], tuple[PyTree, PyTree, PyTree]],
    parts: int,
    carry: PyTree,
    rows: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    """Works rows off in equal parts, one after the other; one part is all of them at once.

    Args:
      function: (carry, a part's rows, the part's number) to (carry, values, rows of results).
      parts: how many; divides the number of rows.
      carry: what goes from one part to the next.
      rows: arrays [b, ...], of which a part has [b / parts, ...].

    Returns:
      The last carry, the mean over the parts of the values, and all rows of results [b, ...].
    """
    if parts == 1:
        return function(carry, rows, 0)
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), rows)

    def work(carried: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
        carry, total = carried
        carry, values, results = function(carry, *part)
        return (carry, jax.tree.map(jnp.add, total, values)), results

    first = jax.tree.map(lambda leaf: leaf[0], split)
    _, values, _ = jax.eval_shape(function, carry, first, jnp.int32(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), values)
    (carry, total), results = lax.scan(work, (carry, zeros), (split, jnp.arange(parts)))
    mean = jax.tree.map(lambda leaf: leaf / parts, total)
    return carry, mean, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)
