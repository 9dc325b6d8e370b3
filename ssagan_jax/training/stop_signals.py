"""Ctrl-C, SIGTERM, and a terminal or reader that goes away: requests to stop after the step."""

import errno
import io
import signal
import sys
from collections.abc import Callable
from types import FrameType

import jax


class StopSignals:
    """While entered, the first Ctrl-C, SIGTERM or SIGHUP requests a stop after the current step.

    So does output into a pipe that nobody reads any more, as SIGPIPE. A second Ctrl-C or SIGTERM
    raises KeyboardInterrupt; SIGHUP comes twice when a terminal is closed. What is written to a
    closed terminal is dropped and a second SIGHUP ignored, also after exit, so that the run can
    save and end.

    Attributes:
      received: number of the signal that this process received, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._handlers = {}
        self._latest: jax.Array | None = None

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._receive)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, _outlive_reader(stream, self._lose_reader))
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
        if self.received and number != signal.SIGHUP:
            raise KeyboardInterrupt
        self.received = self.received or number
        if number == signal.SIGHUP:
            self._handlers[number] = signal.SIG_IGN  # The second one may come after exit.

    def _lose_reader(self) -> None:
        self.received = self.received or signal.SIGPIPE


class _Output(io.FileIO):
    """An output file that drops what is written after its reader or terminal has gone away."""

    def __init__(self, descriptor: int, on_closed_pipe: Callable[[], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._on_closed_pipe = on_closed_pipe

    def write(self, data: bytes) -> int:
        """Writes as FileIO does."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            if error.errno == errno.EPIPE:
                self._on_closed_pipe()
            return len(data)


def _outlive_reader(stream: io.TextIOWrapper, on_closed_pipe: Callable[[], None]) -> io.TextIOBase:
    """The same stream by way of `_Output`."""
    stream.flush()
    output = _Output(stream.fileno(), on_closed_pipe)
    return io.TextIOWrapper(
        # PYTHONUNBUFFERED makes a raw stream.
        output if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(output),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
