"""Keeps TensorBoard's event files of a run in order."""

import re
import time
from pathlib import Path


def sort_before_now(folder: Path) -> None:
    """Renames event files from the future, in their order, so that a new one sorts after them.

    Event files have the time in their names, by which TensorBoard and the report read them: of a
    step that was repeated, the last value counts, and TensorBoard drops what went before. If the
    clock was set back since the last start, the new values would be dropped.
    """
    now = int(time.time())
    found = [(re.split(r"(?<=tfevents\.)(\d+)", file.name), file) for file in folder.iterdir()]
    later = [each for each in found if len(each[0]) == 3 and int(each[0][1]) >= now]
    for seconds, ((head, _, tail), file) in enumerate(sorted(later), now - len(later)):
        file.rename(folder / f"{head}{seconds}{tail}")
