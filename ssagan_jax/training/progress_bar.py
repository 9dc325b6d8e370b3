"""The progress bar of a training stage."""

import math
import time

from tqdm import tqdm

from ssagan_jax.config.schedule import Stage
from ssagan_jax.distributed import is_primary

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


class ProgressBar:
    """Shows steps, losses, images per second and remaining time of one stage on the terminal."""

    def __init__(self, stage: Stage, step: int, batch_size: int) -> None:
        """Shows a stage of a run that is at `step`, with `batch_size` images per step."""
        self._batch_size = batch_size
        self._shown = self._started = time.monotonic()
        self._steps = 0
        self._metrics: dict[str, float] = {}
        self._health: dict[str, float] = {}
        self._bar = tqdm(
            desc=stage.name,
            total=stage.last - stage.first,
            initial=step - stage.first,
            postfix="compiling, which can take a minute",
            dynamic_ncols=True,
            disable=not is_primary(),
            mininterval=_REFRESH_SECONDS,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar:12} {elapsed} left {remaining}{postfix}",
        )

    def start(self) -> None:
        """Counts the first step, which compiled, and starts the clock."""
        self._bar.update()
        self._bar.set_postfix_str("", refresh=False)
        self._started = time.monotonic()

    def advance(self) -> None:
        """Counts a step."""
        self._bar.update()
        self._steps += 1

    def set_metrics(self, metrics: dict[str, float]) -> None:
        """Sets the metrics that are shown at the next refresh."""
        self._metrics = metrics
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
        rate = self._steps * self._batch_size / max(self._shown - self._started, 1e-9)
        values, labels = self._metrics | self._health, _LABELS | _HEALTH_LABELS
        shown = " ".join(
            f"{label} {values[name]:.2f}" for name, label in labels.items() if name in values
        )
        self._bar.set_postfix_str(f"{rate:.1f} images/s, {shown}", refresh=False)
