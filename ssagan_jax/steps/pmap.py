"""Data parallelism: the only home of `jax.pmap`.

The state has no device axis: it goes in and comes out replicated, and only the batch is split. With
several processes each has some of the devices and gives their rows of the batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from ssagan_jax.errors import InputError

# The mapped axis over which the global batch is split.
BATCH_AXIS = "batch"

Metrics = dict[str, jax.Array]
Step = Callable[[Any, dict[str, jax.Array]], tuple[Any, Metrics]]
BatchFn = Callable[[Any, dict[str, np.ndarray]], dict[str, np.ndarray]]


class DeviceError(InputError):
    """A batch that the devices cannot share evenly."""


def check_batch_size(batch_size: int, grad_accumulation_steps: int = 1) -> None:
    """Refuses a global batch that all devices cannot share evenly.

    Args:
      batch_size: pictures a step over all devices.
      grad_accumulation_steps: parts that each device works its pictures off in.

    Raises:
      DeviceError: with the numbers and the sizes that would do.
    """
    devices = len(jax.devices())
    shares = devices * grad_accumulation_steps
    if batch_size % shares:
        below = batch_size // shares * shares
        sizes = [size for size in (below, below + shares) if size]
        parts = (
            f" times config.train.grad_accumulation_steps={grad_accumulation_steps}"
            if grad_accumulation_steps > 1
            else ""
        )
        raise DeviceError(
            f"config.train.batch_size={batch_size}: must be divisible by the {devices} devices "
            f"of this run{parts}; {' or '.join(map(str, sizes))} would do"
        )


def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(jax.sharding.Mesh(jax.devices(), (BATCH_AXIS,)), PartitionSpec(*axes))


def _own_devices() -> int:
    """How many of the devices are this process's."""
    return sum(device.process_index == jax.process_index() for device in jax.devices())


def replicate(state: Any) -> Any:
    """The state laid on all devices, as a `ParallelStep` returns it.

    A step that is given anything else compiles twice: for that, and for what it returned. Every
    process gives the same.
    """
    sharding = _sharding()
    if jax.process_count() == 1:
        return jax.device_put(state, sharding)

    def lay(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        host = np.asarray(leaf)
        # A copy for each device: a step overwrites what it is given.
        return jax.make_array_from_callback(host.shape, sharding, lambda _: host.copy())

    return jax.tree.map(lay, state)


def unreplicate(state: Any) -> Any:
    """A replicated state as this process's first device has it, for computations without others."""
    return jax.tree.map(
        lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, state
    )


class PmapStep:
    """A step (state, batch) -> (state, metrics) on all devices.

    The step sees a replicated state and its device's rows of the batch, and must return the same
    state and metrics on every device. The given state is donated.
    """

    def __init__(self, step: Step) -> None:
        def with_note(state: Any, batch: dict[str, jax.Array], note: jax.Array) -> Any:
            return *step(state, batch), lax.pmax(note, BATCH_AXIS)

        self._devices = _own_devices()
        self._rows = _sharding(BATCH_AXIS)
        self._mapped = jax.pmap(
            with_note,
            axis_name=BATCH_AXIS,
            in_axes=(None, 0, 0),
            out_axes=None,
            devices=jax.devices(),
            donate_argnums=(0,),
        )
        self._compiled: jax.stages.Compiled | None = None

    def compiled(self, state: Any, batch: dict[str, np.ndarray]) -> jax.stages.Compiled:
        """The step compiled for a state and a batch like these, once."""
        if self._compiled is None:
            self._compiled = self._mapped.lower(state, *self._inputs(batch, 0)).compile()
        return self._compiled

    def __call__(
        self, state: Any, batch: dict[str, np.ndarray], note: int = 0
    ) -> tuple[Any, Metrics, jax.Array]:
        """Takes a step.

        Args:
          state: replicated.
          batch: this process's rows of the batch.
          note: a number of this process.

        Returns:
          The state after it, its metrics, and the largest note of all processes.
        """
        return self.compiled(state, batch)(state, *self._inputs(batch, note))

    def _inputs(self, batch: dict[str, np.ndarray], note: int) -> Any:
        rows = _split(batch, self._devices), np.full(self._devices, note, np.int32)
        return jax.tree.map(self._lay, rows)

    def _lay(self, rows: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(self._rows, np.asarray(rows))


def pmap_batched(
    function: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]], batch_size: int
) -> BatchFn:
    """Runs a function of variables and rows, which treats each row alone, on all devices.

    Rows go in by `batch_size`, filled up to one size that the devices share evenly, so that it is
    compiled once. What comes back is on the host and has as many rows as went in. Every process
    gives the same and gets the same; each computes its devices' share.
    """
    devices, own = len(jax.devices()), _own_devices()
    size = -(-batch_size // devices) * devices
    first = jax.process_index() * own * (size // devices)

    def gathered(variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return lax.all_gather(function(variables, rows), BATCH_AXIS, tiled=True)

    mapped = jax.pmap(
        gathered, axis_name=BATCH_AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()
    )

    def run(variables: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(batch.values())))
        parts = []
        for start in range(0, count, size):
            places = np.minimum(np.arange(start, start + size), count - 1)
            places = places[first : first + size // devices * own]
            filled = {name: np.asarray(rows)[places] for name, rows in batch.items()}
            parts.append(jax.tree.map(np.asarray, mapped(variables, _split(filled, own))))
        return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}

    return run


def _split(batch: dict[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """Rows [B, ...] as [devices, B / devices, ...]."""
    return {
        name: rows.reshape(devices, rows.shape[0] // devices, *rows.shape[1:])
        for name, rows in batch.items()
    }
