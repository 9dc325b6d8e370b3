"""The progress bar of a training stage."""

import collections
import math
import time
from typing import Any

from ssagan_jax.config.schedule import Stage
from ssagan_jax.distributed import is_primary
from ssagan_jax.progress import Progress

_LABELS = {
    "damsm/words": "words",
    "damsm/sentences": "sentences",
    "discriminator/adversarial": "D",
    "discriminator/magp": "MA-GP",
    "generator/adversarial": "G",
    "generator/damsm": "DAMSM",
    "gradient_norm/discriminator": "grad D",
    "gradient_norm/generator": "grad G",
}
_HEALTH_LABELS = {
    "health/overfitting": "overfitting",
    "health/noise_variety": "variety of noises",
    "health/caption_variety": "of captions",
}
_REFRESH_SECONDS = 0.5
_TIMED_STEPS = 50


class StepTimer:
    """Seconds per step, from the latest steps without the longest tenth of them.

    What interrupts a step is so not taken for its pace: a checkpoint, or a process that is stopped
    for hours and continued.
    """

    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=_TIMED_STEPS)
        self._last = 0.0

    def start(self) -> None:
        """Starts the clock at the end of a step."""
        self._last = time.monotonic()

    def advance(self) -> None:
        """Times the step that has ended now."""
        now = time.monotonic()
        self._seconds.append(now - self._last)
        self._last = now

    def seconds_per_step(self) -> float | None:
        """The mean, above 0; None before the first step that was timed."""
        shortest = sorted(self._seconds)[: max(1, len(self._seconds) * 9 // 10)]
        return max(sum(shortest) / len(shortest), 1e-9) if shortest else None


class _Bar(Progress):
    """With the time left by a `StepTimer`, once it has one."""

    timer: StepTimer | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        seconds = self.timer and self.timer.seconds_per_step()
        return super().format_dict | ({"rate": 1 / seconds} if seconds else {})


class ProgressBar:
    """Shows steps, losses, images per second and remaining time of one stage on the terminal."""

    def __init__(self, stage: Stage, step: int, batch_size: int) -> None:
        """Shows a stage of a run that is at `step`, with `batch_size` images per step."""
        self._batch_size = batch_size
        self._shown = time.monotonic()
        self._timer = StepTimer()
        self._metrics: dict[str, float] = {}
        self._health: dict[str, float] = {}
        self._bar = _Bar(
            desc=stage.name,
            total=stage.last - stage.first,
            initial=step - stage.first,
            postfix="compiling, which can take a minute",
            dynamic_ncols=True,
            disable=not is_primary(),
            mininterval=_REFRESH_SECONDS,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar:12} {elapsed} left {remaining}{postfix}",
        )
        self._bar.timer = self._timer

    def start(self) -> None:
        """Counts the first step, which compiled, and starts the clock."""
        self._bar.update()
        self._bar.set_postfix_str("", refresh=False)
        self._timer.start()

    def advance(self) -> None:
        """Counts a step."""
        self._timer.advance()
        self._bar.update()

    def set_metrics(self, metrics: dict[str, float]) -> None:
        """Updates the metrics that are shown at the next refresh."""
        self._metrics |= metrics
        if time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._show()

    def set_health(self, health: dict[str, float]) -> None:
        """Sets the signs of overfitting and of collapse, shown until the next measurement."""
        self._health = {name: value for name, value in health.items() if math.isfinite(value)}

    def close(self) -> None:
        """Shows the last metrics, and leaves the bar on the terminal."""
        self._show()
        self._bar.close()

    def _show(self) -> None:
        self._shown = time.monotonic()
        if not self._metrics:
            return
        seconds = self._timer.seconds_per_step()
        rate = self._batch_size / seconds if seconds else 0.0
        values, labels = self._metrics | self._health, _LABELS | _HEALTH_LABELS
        shown = " ".join(
            f"{label} {values[name]:.2f}" for name, label in labels.items() if name in values
        )
        self._bar.set_postfix_str(f"{rate:.1f} images/s, {shown}", refresh=False)
