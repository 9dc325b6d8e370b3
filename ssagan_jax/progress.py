"""The progress bar, and signals that ask a run to stop."""

import signal
import time
from types import FrameType, TracebackType

import jax
from tqdm import tqdm

from ssagan_jax.training.processes import is_first

_SHOWN = {
    "damsm/words": "words",
    "damsm/sentences": "sentences",
    "discriminator/adversarial": "D",
    "discriminator/magp": "MA-GP",
    "generator/adversarial": "G",
    "generator/damsm": "DAMSM",
}
_REFRESH_SECONDS = 0.5


class Bar:
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
            disable=not is_first(),
            mininterval=_REFRESH_SECONDS,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar:12} {elapsed} left {remaining}{postfix}",
        )

    def __enter__(self) -> "Bar":
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


class StopSignals:
    """While entered, Ctrl-C and SIGTERM ask for a stop after the step under way.

    Attributes:
      signal: number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def asked(self, note: jax.Array | None) -> int:
        """The signal to stop for, 0 for none.

        Args:
          note: the largest signal that the processes gave the step before, None for no step. Where
            there are several, it decides, so that all of them take the same steps.
        """
        if jax.process_count() == 1:
            return self.signal
        return 0 if note is None else int(note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:  # A second one does not wait.
            raise KeyboardInterrupt
        self.signal = number
