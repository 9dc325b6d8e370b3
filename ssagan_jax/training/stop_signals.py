"""Ctrl-C and SIGTERM: a request to stop after the current step."""

import signal
from types import FrameType, TracebackType

import jax


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

    def should_stop(self, note: jax.Array | None) -> int:
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
