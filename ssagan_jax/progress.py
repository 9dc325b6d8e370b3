"""Progress bars that do not follow the machine's clock, which may be set while they are shown."""

import time
from typing import Any

from tqdm import tqdm


class Progress(tqdm):
    """tqdm, timed by a clock that nobody can set.

    tqdm would show negative times after the clock is set back, and no progress until it is again
    where it was. Only one bar is shown at a time, in the line of the cursor, also if one before it
    was never closed.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes the arguments of tqdm."""
        super().__init__(*arguments, **{"position": 0} | options)

    @property
    def _time(self) -> Any:
        return time.monotonic

    @_time.setter
    def _time(self, clock: Any) -> None:
        """tqdm sets its own."""
