"""Reports training steps with NaN or infinity, and aborts after too many of them in a row."""

import numpy as np

from ssagan_jax.distributed import print_on_primary
from ssagan_jax.errors import TrainingError

_WHAT_TO_DO = {
    "encoders": "Choose another --workdir, lower config.damsm.learning_rate and start again",
    "gan": (
        "The last checkpoint is intact. To continue from it, choose another --workdir, lower the "
        "learning rates, and set config.train.checkpoint to this folder ("
        "config.damsm.checkpoint if the checkpoint is of the end of stage 1)"
    ),
}
_PREFIX = "nonfinite/"  # of the metrics that are 1 where a network's update was skipped


class NonFiniteLimit:
    """Counts consecutive steps in which the update of a network was skipped."""

    def __init__(self, limit: int, stage: str, period: int = 1) -> None:
        """Aborts at the `limit`-th such step in a row of a stage, "encoders" or "gan".

        With a `period`, steps that are so far apart are also counted by themselves, since they
        alone may have MA-GP.
        """
        self._limit, self._stage = limit, stage
        self._in_a_row = 0
        self._of_place = [0] * period

    def check(self, step: int, metrics: dict[str, float]) -> None:
        """Reports a step whose update was skipped.

        Args:
          step: number of the step.
          metrics: of the step.

        Raises:
          TrainingError: it is the `limit`-th in a row; names the metrics that are not finite.
        """
        flags = {name: flag for name, flag in metrics.items() if name.startswith(_PREFIX)}
        skipped = [name.removeprefix(_PREFIX) for name, flag in flags.items() if flag]
        place = step % len(self._of_place)
        if not skipped:
            self._in_a_row = self._of_place[place] = 0
            return
        self._in_a_row += 1
        self._of_place[place] += 1
        in_a_row = max(self._in_a_row, self._of_place[place])
        terms = [f"{name} is {value}" for name, value in metrics.items() if not np.isfinite(value)]
        report = (
            f"step {step}: {', '.join(terms) or 'a gradient is not finite'}; skipped the update of "
            f"{', '.join(skipped)} ({in_a_row} in a row, config.train.max_nonfinite_steps="
            f"{self._limit})"
        )
        if in_a_row >= self._limit:
            raise TrainingError(f"{report}. {_WHAT_TO_DO[self._stage]}")
        print_on_primary(report)
