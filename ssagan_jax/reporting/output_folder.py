"""The output folder of a report, replaced as a whole."""

import os
from pathlib import Path

from ssagan_jax.atomic_files import atomic_folder, check_not_file
from ssagan_jax.errors import InputError
from ssagan_jax.reporting.page import MARK, files_beside

PAGE = "index.html"


def check_output(output: Path) -> None:
    """Raises InputError if the path holds anything but the files of an earlier report."""
    check_not_file("--output", output)
    if os.path.ismount(output):
        raise InputError(f"--output={output}: is a mount point; choose a new folder in it")
    index = output / PAGE
    page = index.read_text(encoding="utf-8", errors="replace") if index.is_file() else ""
    known = {PAGE, *files_beside(page)} if MARK in page else set()
    others = sorted(path.name for path in output.glob("*") if path.name not in known)
    if others:
        raise InputError(
            f"--output={output}: holds files that are not a report's, such as {others[0]}; "
            "choose another folder"
        )


def write_output(output: Path, files: dict[str, bytes]) -> None:
    """Writes a report; an earlier one is replaced once the new one is complete."""
    with atomic_folder(output, replace=True) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
