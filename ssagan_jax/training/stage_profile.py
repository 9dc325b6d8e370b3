"""A trace of a few steps of each stage, for XProf (TensorBoard's profiler)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

_FIRST = 10
_LAST = 15


class StageProfile:
    """Traces the steps 10 to 15 that this process runs of a stage, once."""

    def __init__(self, folder: Path | None) -> None:
        """Writes the trace below `folder`; None disables it."""
        self._folder = folder
        self._steps = 0
        self._tracing = False

    def __enter__(self) -> "StageProfile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Runs a step of the run, which the trace shows by its `number`."""
        self._steps += 1
        if self._folder and self._steps == _FIRST:
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def after_step(self, results: object) -> None:
        """Ends the trace after its last step, once the arrays in `results` are computed."""
        if self._steps == _LAST:
            jax.block_until_ready(results)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
