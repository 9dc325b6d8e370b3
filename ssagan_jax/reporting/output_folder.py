"""The folder that a report is written to, whole or not at all."""

import shutil
from pathlib import Path

from ssagan_jax.errors import InputError
from ssagan_jax.reporting.page import MARK

PAGE = "index.html"


def check_output(output: Path) -> None:
    """Refuses a place that holds something else than an earlier report; raises InputError."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output}: is a file; choose a folder")
    index = output / PAGE
    ours = index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")
    if output.is_dir() and any(output.iterdir()) and not ours:
        raise InputError(
            f"--output={output}: holds files that are no report; choose another folder"
        )


def write_output(output: Path, files: dict[str, bytes]) -> None:
    """Writes a folder beside its place first; an earlier report gives way in one step."""
    partial, old = (output.with_name(output.name + end) for end in (".part", ".old"))
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        (partial / name).write_bytes(content)
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)
