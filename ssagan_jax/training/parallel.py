"""Data parallelism: the only home of `jax.pmap`.

The state has no device axis: it goes in and comes out replicated, and only the batch is split.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ssagan_jax.failures import InputError

# The mapped axis over which the global batch is split.
AXIS = "batch"

Step = Callable[[Any, dict[str, jax.Array]], tuple[Any, dict[str, jax.Array]]]
Rows = Callable[[Any, dict[str, np.ndarray]], dict[str, np.ndarray]]


class DeviceError(InputError):
    """A batch that the devices cannot share evenly."""


def check_batch_size(batch_size: int) -> None:
    """Refuses a global batch that this machine's devices cannot share evenly.

    Raises:
      DeviceError: with both numbers and the sizes that would do.
    """
    devices = jax.local_device_count()
    if batch_size % devices:
        below = batch_size // devices * devices
        sizes = [size for size in (below, below + devices) if size]
        raise DeviceError(
            f"config.train.batch_size={batch_size}: must be divisible by the {devices} devices "
            f"here; {' or '.join(map(str, sizes))} would do"
        )


def replicated(state: Any) -> Any:
    """The state laid on all devices of this machine, as `parallel` steps return it.

    A step that is given anything else compiles twice: for that, and for what it returned.
    """
    mesh = jax.sharding.Mesh(jax.local_devices(), (AXIS,))
    return jax.device_put(state, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def parallel(step: Step) -> Step:
    """Runs a step (state, batch) -> (state, metrics) on all devices of this machine.

    The step sees a replicated state and its device's rows of the batch, and must return the same
    state and metrics on every device. The given state is donated.
    """
    devices = jax.local_devices()
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=(0,),
    )

    def run(state: Any, batch: dict[str, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
        return mapped(state, _split(batch, len(devices)))

    return run


def parallel_rows(
    function: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]], batch_size: int
) -> Rows:
    """Runs a function of variables and rows, which treats each row alone, on all devices.

    Rows go in by `batch_size`, filled up to one size that the devices share evenly, so that it is
    compiled once. What comes back is on the host and has as many rows as went in.
    """
    devices = jax.local_devices()
    size = -(-batch_size // len(devices)) * len(devices)
    mapped = jax.pmap(function, axis_name=AXIS, in_axes=(None, 0), devices=devices)

    def run(variables: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(batch.values())))
        parts = []
        for start in range(0, count, size):
            places = np.minimum(np.arange(start, start + size), count - 1)
            filled = {name: np.asarray(rows)[places] for name, rows in batch.items()}
            found = mapped(variables, _split(filled, len(devices)))
            parts.append(jax.tree.map(_joined, found))
        return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}

    return run


def _joined(rows: jax.Array) -> np.ndarray:
    """Rows [devices, b, ...] as [devices * b, ...]."""
    return np.asarray(rows).reshape(-1, *rows.shape[2:])


def _split(batch: dict[str, jax.Array], devices: int) -> dict[str, jax.Array]:
    """Rows [B, ...] as [devices, B / devices, ...]."""
    return {
        name: rows.reshape(devices, rows.shape[0] // devices, *rows.shape[1:])
        for name, rows in batch.items()
    }
