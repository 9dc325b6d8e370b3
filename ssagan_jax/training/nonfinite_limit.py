"""Steps that taught a network nothing, since a loss or a gradient was not finite."""

import jax
import numpy as np

from ssagan_jax.distributed import print_on_primary
from ssagan_jax.errors import TrainingError

_MARK = "nonfinite/"


class NonFiniteLimit:
    """Tells of each such step, and ends a run that has too many in a row."""

    def __init__(self, most: int) -> None:
        """Allows fewer than `most` in a row."""
        self._most = most
        self._in_a_row = 0

    def check(self, step: int, metrics: dict[str, jax.Array] | None) -> None:
        """Looks at a step's metrics, None for none, which waits for the step's end.

        Raises:
          TrainingError: with the terms that are not finite, at the last step that is allowed.
        """
        marks = {name: mark for name, mark in (metrics or {}).items() if name.startswith(_MARK)}
        left_out = [name.removeprefix(_MARK) for name, mark in marks.items() if float(mark)]
        if not left_out:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        values = {name: float(value) for name, value in metrics.items()}
        terms = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
        fault = (
            f"step {step}: {', '.join(terms) or 'a gradient is not finite'}; no update of "
            f"{', '.join(left_out)} ({self._in_a_row} in a row, config.train.max_nonfinite_steps="
            f"{self._most})"
        )
        if self._in_a_row >= self._most:
            raise TrainingError(
                f"{fault}. The last checkpoint is whole. In another --workdir, start from it with "
                "config.train.checkpoint and lower learning rates"
            )
        print_on_primary(fault)
