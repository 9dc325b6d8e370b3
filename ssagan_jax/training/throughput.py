"""How fast a stage trains and how much memory it took, counted by steps that have ended."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator

import jax
from clu.metric_writers import MetricWriter

_MIB = 2**20


class ThroughputMeter:
    """Pictures a second and seconds an epoch, from one writing of scalars to the next.

    A step counts once its metrics were read, not when it was dispatched. The first step, which
    compiles, and what is done while `paused` are left out.
    """

    def __init__(self, first: int, batch_size: int, steps_per_epoch: int) -> None:
        """Takes the step at which the stage begins, and how many pictures and steps there are."""
        self._first = first
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._metrics: dict[str, jax.Array] | None = None
        self._step = 0
        self._since = 0.0

    def advance(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes note of a step whose metrics may still be under computation."""
        if self._metrics is None:
            jax.block_until_ready(metrics)
            self._step, self._since = step, time.monotonic()
        self._metrics = metrics

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what is done within, once the steps before it have ended."""
        jax.block_until_ready(self._metrics)
        began = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - began

    def write(self, writer: MetricWriter, step: int, metrics: dict[str, jax.Array] | None) -> None:
        """Writes a step's metrics, which ends it, with the pace; nothing where there are none."""
        if metrics is not None:
            values = {name: float(value) for name, value in metrics.items()}
            writer.write_scalars(step, values | self.scalars(step))

    def scalars(self, step: int) -> dict[str, float]:
        """Scalars of the steps since the last call, of which `step`, the last one, has ended.

        Returns:
          "time/epoch": epochs of this stage done; "time/pictures_per_second" and
          "time/seconds_per_epoch", unless no step was timed; and the peak of memory in MiB.
        """
        steps, now = step - self._step, time.monotonic()
        scalars = {"time/epoch": (step - self._first) / self._steps_per_epoch} | peak_memory()
        if steps > 0:
            seconds = (now - self._since) / steps
            scalars["time/pictures_per_second"] = self._batch_size / seconds
            scalars["time/seconds_per_epoch"] = self._steps_per_epoch * seconds
        self._step, self._since = step, now
        return scalars


def peak_memory() -> dict[str, float]:
    """Most memory in use so far, in MiB: of the fullest accelerator, or else of this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]
    if peaks:
        return {"memory/device_peak_mib": max(peaks) / _MIB}
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"memory/process_peak_mib": peak / _MIB}
