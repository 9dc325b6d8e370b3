"""Progress bars that do not follow the machine's clock, which may be set while they are shown."""

import time
from typing import Any

from tqdm import tqdm


class Progress(tqdm):
    """tqdm, timed by a clock that nobody can set.

    tqdm would show negative times after the clock is set back, and no progress until it is again
    where it was.
    """

    @property
    def _time(self) -> Any:
        return time.monotonic

    @_time.setter
    def _time(self, clock: Any) -> None:
        """tqdm sets its own."""
