"""Gradient accumulation: a batch is processed as microbatches, in the memory of one of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any


class LossAndGradient(NamedTuple):
    """A loss f32[], its gradient in all of a network's parameters as one vector, and metrics.

    The gradient is None if it is not computed.
    """

    loss: jax.Array
    gradient: jax.Array | None
    metrics: dict[str, jax.Array]


class MicrobatchOutputs(NamedTuple):
    """Outputs of one microbatch, and of all of them together.

    Attributes:
      carry: handed from each microbatch to the next; of all: that of the last one.
      averaged: such as `LossAndGradient`; of all: means over the microbatches.
      concatenated: arrays [b / n, ...] of one microbatch; of all: [b, ...], in the batch's order.
    """

    carry: PyTree = None
    averaged: PyTree = None
    concatenated: PyTree = None


def unrolled_iterations(num_microbatches: int) -> int:
    """How many microbatches a loop's body processes: all on CPUs, and then there is no loop.

    In a loop XLA's CPU code computes gradients of convolutions by another kernel, with which a step
    takes 2.6 times as long. Without one it takes more memory and longer to compile.
    """
    return num_microbatches if jax.default_backend() == "cpu" else 1


def accumulate_microbatches(
    function: Callable[[PyTree, PyTree, Any], MicrobatchOutputs],
    num_microbatches: int,
    batch: PyTree,
    carry: PyTree = None,
) -> MicrobatchOutputs:
    """Applies a function to equal microbatches in sequence.

    Args:
      function: called with (carry, microbatch, index of the microbatch).
      num_microbatches: n, which divides the batch size b; with 1 the function is called once, on
        the whole batch.
      batch: arrays [b, ...]; a microbatch has [b / n, ...] of each.
      carry: passed to the first microbatch.
    """
    if num_microbatches == 1:
        return function(carry, batch, 0)
    microbatches = jax.tree.map(
        lambda leaf: leaf.reshape(num_microbatches, -1, *leaf.shape[1:]), batch
    )

    def body(carry_and_sum: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        carry, total = carry_and_sum
        outputs = function(carry, *inputs)
        return (outputs.carry, jax.tree.map(jnp.add, total, outputs.averaged)), outputs.concatenated

    first = jax.tree.map(lambda leaf: leaf[0], microbatches)
    shapes = jax.eval_shape(function, carry, first, jnp.int32(0)).averaged
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    indices = jnp.arange(num_microbatches)
    (carry, total), stacked = lax.scan(
        body, (carry, zeros), (microbatches, indices), unroll=unrolled_iterations(num_microbatches)
    )
    return MicrobatchOutputs(
        carry=carry,
        averaged=jax.tree.map(lambda leaf: leaf / num_microbatches, total),
        concatenated=jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked),
    )
