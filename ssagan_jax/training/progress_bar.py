"""The progress bar, and signals that ask a run to stop."""

import time
from types import TracebackType

import jax
from tqdm import tqdm

from ssagan_jax.distributed import is_primary

_SHOWN = {
    "damsm/words": "words",
    "damsm/sentences": "sentences",
    "discriminator/adversarial": "D",
    "discriminator/magp": "MA-GP",
    "generator/adversarial": "G",
    "generator/damsm": "DAMSM",
}
_REFRESH_SECONDS = 0.5


class ProgressBar:
    """Step, losses, pictures a second and time left of one stage, on the terminal.

    Attributes:
      metrics: of the step before, None at the start.
    """

    def __init__(self, name: str, first: int, step: int, last: int, batch_size: int) -> None:
        """Shows a stage of steps first..last, at `step`, with `batch_size` pictures a step."""
        self.metrics: dict[str, jax.Array] | None = None
        self._batch_size = batch_size
        self._shown = self._started = time.monotonic()
        self._taken = 0
        self._bar = tqdm(
            desc=name,
            total=last - first,
            initial=step - first,
            postfix="compiling, which can take a minute",
            dynamic_ncols=True,
            disable=not is_primary(),
            mininterval=_REFRESH_SECONDS,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar:12} {elapsed} left {remaining}{postfix}",
        )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show()
        self._bar.close()

    def advance(self, metrics: dict[str, jax.Array]) -> None:
        """Counts a step whose metrics may still be under computation."""
        if self._taken and time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._show()
        self.metrics = metrics
        self._bar.update()
        self._taken += 1
        if self._taken == 1:
            self._bar.set_postfix_str("", refresh=False)
            # The first step compiles; the rate is that of those behind it.
            jax.block_until_ready(metrics)
            self._started = time.monotonic()

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self.metrics is None:
            return
        rate = (self._taken - 1) * self._batch_size / max(self._shown - self._started, 1e-9)
        losses = " ".join(
            f"{short} {float(self.metrics[name]):.2f}"
            for name, short in _SHOWN.items()
            if name in self.metrics
        )
        self._bar.set_postfix_str(f"{rate:.1f} pictures/s, {losses}", refresh=False)
