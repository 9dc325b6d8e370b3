"""Images per second, seconds per epoch and peak memory of a training stage."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator

import jax

_MIB = 2**20


class ThroughputMeter:
    """Measures throughput from one call of `scalars` to the next.

    Counts steps whose metrics have been read, not steps that are only dispatched. Excludes the
    first step, which compiles, and what runs in `paused`.
    """

    def __init__(self, first: int, batch_size: int, steps_per_epoch: int) -> None:
        """Takes the step at which the stage begins, images per step and steps per epoch."""
        self._first = first
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._step = 0
        self._since = 0.0

    def start(self, step: int) -> None:
        """Starts the clock at the end of a step."""
        self._step, self._since = step, time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock while the body runs; all dispatched steps must have ended."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - began

    def scalars(self, step: int) -> dict[str, float]:
        """Scalars of the steps since the last call or `start`.

        Args:
          step: the last step that has ended.

        Returns:
          "time/epoch": epochs of this stage; "time/pictures_per_second" and
          "time/seconds_per_epoch", unless no step was timed; and the peak memory in MiB.
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
    """Peak memory in MiB of the fullest accelerator, or else of this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]
    if peaks:
        return {"memory/device_peak_mib": max(peaks) / _MIB}
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"memory/process_peak_mib": peak / _MIB}
