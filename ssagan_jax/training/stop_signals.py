"""Ctrl-C and SIGTERM: a request to stop after the current step."""

import signal
from types import FrameType

import jax


class StopSignals:
    """While entered, the first Ctrl-C or SIGTERM requests a stop after the current step.

    A second one raises KeyboardInterrupt.

    Attributes:
      received: number of the signal that this process received, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._handlers = {}
        self._latest: jax.Array | None = None

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def after_step(self, largest: jax.Array) -> int:
        """Returns the signal to stop for after a step, 0 for none.

        Several processes stop after the same step: the one after the step in which the largest
        signal was above 0. It is read a step late, so that no process waits for its device.

        Args:
          largest: the largest `received` of all processes at the start of the step.
        """
        signal_to_stop_for, self._latest = self.after_stage(), largest
        return signal_to_stop_for

    def after_stage(self) -> int:
        """Returns the signal to stop for after the last step of a stage, 0 for none."""
        if jax.process_count() == 1:
            return self.received
        return 0 if self._latest is None else int(self._latest)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number
