"""Metrics of the steps of one stage, on the terminal and in TensorBoard."""

import contextlib
from collections.abc import Iterator

import jax
from clu.metric_writers import MetricWriter
from ml_collections import ConfigDict

from ssagan_jax.config.schedule import Stage
from ssagan_jax.training.nonfinite_limit import NonFiniteLimit
from ssagan_jax.training.progress_bar import ProgressBar
from ssagan_jax.training.throughput import ThroughputMeter

Metrics = dict[str, jax.Array]


class StepMonitor:
    """Reads the metrics of each step once the next one is dispatched.

    By then the step has ended or the device has more to do, so the device never waits for the host.
    """

    def __init__(
        self,
        config: ConfigDict,
        stage: Stage,
        step: int,
        batch_size: int,
        steps_per_epoch: int,
        writer: MetricWriter,
    ) -> None:
        """Monitors a stage of a run that is at `step`, with `batch_size` images per step."""
        self._scalars_every = config.log.scalars_every
        self._writer = writer
        self._limit = NonFiniteLimit(
            config.train.max_nonfinite_steps, stage.name, config.loss.magp_every
        )
        self._meter = ThroughputMeter(stage.first, batch_size, steps_per_epoch)
        self._bar = ProgressBar(stage, step, batch_size)
        self._unread: tuple[int, Metrics] | None = None

    def __enter__(self) -> "StepMonitor":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Reads the metrics of the step before, and keeps those of this one for the next call.

        Raises:
          TrainingError: too many steps in a row were not finite.
        """
        previous, self._unread = self._unread, (step, metrics)
        if previous is None:
            jax.block_until_ready(metrics)
            self._meter.start(step)
            self._bar.start()
        else:
            read_step, values = self._read(*previous)
            if read_step % self._scalars_every == 0:
                self._write(read_step, values)
            self._bar.advance()

    def set_health(self, values: dict[str, float]) -> None:
        """Shows the latest signs of overfitting and of collapse."""
        self._bar.set_health(values)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes what runs in the body from the throughput."""
        jax.block_until_ready(self._unread)
        with self._meter.paused():
            yield

    def finish(self) -> None:
        """Reads and writes the metrics of the last step; raises as `after_step`."""
        if self._unread is not None:
            self._write(*self._read(*self._unread))

    def _read(self, step: int, metrics: Metrics) -> tuple[int, dict[str, float]]:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._limit.check(step, values)
        self._bar.set_metrics(values)
        return step, values

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._writer.write_scalars(step, values | self._meter.scalars(step))
