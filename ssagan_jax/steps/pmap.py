"""Data parallelism over devices; no other module calls `jax.pmap`.

The state has no device axis: it is replicated, and only the batch is split. With several processes,
each one passes the rows of the batch for its own devices.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ssagan_jax.errors import InputError
from ssagan_jax.steps.networks import crop_images
from ssagan_jax.steps.state import Batch, Metrics

# The mapped axis over which the global batch is split.
BATCH_AXIS = "batch"

Step = Callable[..., tuple[Any, Metrics]]
BatchFn = Callable[[Any, dict[str, np.ndarray]], dict[str, np.ndarray]]


class DeviceError(InputError):
    """A batch size that the devices do not divide."""


def check_batch_size(config: ConfigDict) -> None:
    """Checks that the global batch splits evenly into the microbatches of all devices.

    With `config.loss.diversity_weight` each microbatch must have an even number of images.

    Raises:
      DeviceError: it does not; the message has the nearest batch sizes that do.
    """
    size, microbatches = config.train.batch_size, config.train.grad_accumulation_steps
    devices = len(jax.devices())
    divisor, factors = devices * microbatches, ""
    if microbatches > 1:
        factors += f" times config.train.grad_accumulation_steps={microbatches}"
    if config.loss.diversity_weight:
        divisor *= 2
        factors += f" times 2, since config.loss.diversity_weight={config.loss.diversity_weight}"
    if size % divisor:
        below = size // divisor * divisor
        sizes = " or ".join(str(each) for each in (below, below + divisor) if each)
        raise DeviceError(
            f"config.train.batch_size={size}: must be divisible by the {devices} devices of "
            f"this run{factors}; use {sizes}"
        )


def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(jax.sharding.Mesh(jax.devices(), (BATCH_AXIS,)), PartitionSpec(*axes))


def _num_local_devices() -> int:
    """Number of the run's devices that belong to this process."""
    return sum(device.process_index == jax.process_index() for device in jax.devices())


def replicate(state: Any) -> Any:
    """A state on all devices, with the sharding that `PmapStep` returns.

    With any other sharding a step would compile twice, for this state and for the one it returns.
    All processes must pass the same state.
    """
    sharding = _sharding()
    if jax.process_count() == 1:
        return jax.device_put(state, sharding)

    def replicate_leaf(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        host = np.asarray(leaf)
        # A copy for each device: a step donates its state.
        return jax.make_array_from_callback(host.shape, sharding, lambda _: host.copy())

    return jax.tree.map(replicate_leaf, state)


def replicated_shapes(shapes: Any) -> Any:
    """Shapes and types of a state as if it was replicated; pmap takes them in one process only."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding()), shapes
    )


def unreplicate(state: Any) -> Any:
    """The copy of a replicated state on this process's first device."""
    return jax.tree.map(
        lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, state
    )


def crop_on_devices(images: np.ndarray | None, size: int) -> Callable[[Batch], Batch] | None:
    """Replaces the crops of a batch by images, for `PmapStep`; None without images.

    It is a program of its own: so the step is the same as for images that the host has cropped, and
    its results are, to the bit. XLA rounds differently in programs that differ elsewhere.

    Args:
      images: all training images, u8[N, H, W, 3].
      size: edge of a crop in pixels.
    """
    if images is None:
        return None
    images = replicate(images)
    crop = jax.jit(
        jax.shard_map(
            lambda images, crops: crop_images(images, crops[0], size)[None],
            mesh=_sharding().mesh,
            in_specs=(PartitionSpec(), PartitionSpec(BATCH_AXIS)),
            out_specs=PartitionSpec(BATCH_AXIS),
        )
    )

    def with_images(batch: Batch) -> Batch:
        rest = {name: rows for name, rows in batch.items() if name != "crop"}
        return rest | {"image": crop(images, batch["crop"])}

    return with_images


class PmapStep:
    """A training step (state, batch) -> (state, metrics) on all devices.

    The function gets the replicated state and its device's rows of the batch. It must return the
    same state and metrics on all devices. The state is donated.
    """

    def __init__(self, step: Step, prepare: Callable[[Batch], Batch] | None = None) -> None:
        """Maps a step, which gets what `prepare` makes of each sharded batch."""

        def step_with_signal(state: Any, batch: Batch, stop_signal: jax.Array) -> Any:
            return *step(state, batch), lax.pmax(stop_signal, BATCH_AXIS)

        self._prepare = prepare
        self._local_devices = _num_local_devices()
        self._sharding = _sharding(BATCH_AXIS)
        self._mapped = jax.pmap(
            step_with_signal,
            axis_name=BATCH_AXIS,
            in_axes=(None, 0, 0),
            out_axes=None,
            devices=jax.devices(),
            donate_argnums=(0,),
        )
        self._compiled: jax.stages.Compiled | None = None
        self._lock = threading.Lock()

    @property
    def is_compiling(self) -> bool:
        """Whether another thread compiles the step now."""
        return self._lock.locked()

    def compile(self, state: Any, batch: dict[str, np.ndarray]) -> jax.stages.Compiled:
        """Compiles the step for the shapes of a state and a batch.

        Later calls return the same; those of other threads wait for it. The state may be one of
        `replicated_shapes`.
        """
        with self._lock:
            if self._compiled is None:
                self._compiled = self._mapped.lower(state, *self._shard_inputs(batch, 0)).compile()
            return self._compiled

    def __call__(
        self, state: Any, batch: dict[str, np.ndarray], stop_signal: int = 0
    ) -> tuple[Any, Metrics, jax.Array]:
        """Runs the step.

        Args:
          state: replicated.
          batch: this process's rows of the batch.
          stop_signal: number of the signal that this process received, 0 for none.

        Returns:
          The state after the step, its metrics, and the largest stop signal of all processes.
        """
        return self.compile(state, batch)(state, *self._shard_inputs(batch, stop_signal))

    def _shard_inputs(self, batch: dict[str, np.ndarray], stop_signal: int) -> Any:
        signals = np.full(self._local_devices, stop_signal, np.int32)
        sharded, signals = jax.tree.map(
            lambda rows: jax.make_array_from_process_local_data(self._sharding, np.asarray(rows)),
            (_split(batch, self._local_devices), signals),
        )
        return self._prepare(sharded) if self._prepare else sharded, signals


def pmap_batched(
    function: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]], batch_size: int
) -> BatchFn:
    """Runs a function of variables and rows on all devices, for any number of rows.

    Args:
      function: computes each row independently of the others, or at least of their order.
      batch_size: rows per call, rounded up to a multiple of the devices. The last call is padded
        by the first rows, so that the function is compiled once.

    Returns:
      A function of variables and arrays [B, ...] on the host to arrays [B, ...] on the host. All
      processes pass the same rows and get the same results.
    """
    devices, local_devices = len(jax.devices()), _num_local_devices()
    size = -(-batch_size // devices) * devices
    local_rows = size // devices * local_devices
    first = jax.process_index() * local_rows

    def gathered(variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return lax.all_gather(function(variables, rows), BATCH_AXIS, tiled=True)

    mapped = jax.pmap(
        gathered, axis_name=BATCH_AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()
    )

    def run(variables: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(batch.values())))
        outputs = []
        for start in range(0, count, size):
            indices = np.arange(start, start + size) % count
            indices = indices[first : first + local_rows]
            padded = {name: np.asarray(rows)[indices] for name, rows in batch.items()}
            rows = mapped(variables, _split(padded, local_devices))
            outputs.append(jax.tree.map(np.asarray, rows))
        return {name: np.concatenate([out[name] for out in outputs])[:count] for name in outputs[0]}

    return run


def _split(batch: dict[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """Reshapes [B, ...] to [devices, B / devices, ...]."""
    return {
        name: rows.reshape(devices, rows.shape[0] // devices, *rows.shape[1:])
        for name, rows in batch.items()
    }
