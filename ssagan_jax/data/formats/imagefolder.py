"""Hugging Face's ImageFolder: tables of file names and captions.

`metadata.jsonl` or `metadata.csv`, in the source or in any folder below it, holds `file_name`,
relative to the table's folder, and `text`, `caption` or `captions` (a list); `label` may name a
class. A picture may have several rows. The first folder may be a split.
"""

import ast
import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ssagan_jax.data.formats.folder_names import is_picture, split_and_label, unique_name
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import (
    check_name,
    check_safe,
    text_encoding,
    unsafe_reason,
    walk_files,
)
from ssagan_jax.errors import DataError

TABLES = ("metadata.jsonl", "metadata.csv")
_CAPTION_KEYS = ("text", "caption", "captions")
_MAX_LINE = 2**20


class ImageFolder:
    """Pictures that are described in tables."""

    def recognises(self, source: Path) -> bool:
        """Whether there is a table."""
        return source.is_dir() and any(_is_table(file) for file in walk_files(source))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields rows that cannot be used, the pictures of the tables, then all other pictures."""
        pictures: dict[str, tuple[list[str], str]] = {}
        for table in filter(_is_table, walk_files(source)):
            for number, row in _rows(source, source / table):
                try:
                    name, captions, label = _read(row, table)
                except DataError as error:
                    yield Item(f"{table}:{number}", None, (), error=f"line {number}: {error}")
                    continue
                known, _ = pictures.setdefault(name, ([], label))
                known.extend(captions)
        stems: set[str] = set()
        for file, (captions, label) in pictures.items():
            yield _item(source, file, tuple(captions), label, stems)
        for file in walk_files(source):
            if is_picture(file) and file not in pictures:
                yield _item(source, file, (), "", stems)


def _is_table(file: str) -> bool:
    return PurePosixPath(file).name in TABLES


def _rows(source: Path, table: Path) -> Iterator[tuple[int, Any]]:
    """Yields the rows of a table with their line numbers; DataError if the table cannot be read."""
    check_safe(source, table)
    with open(table, "rb") as start:
        encoding = text_encoding(start.read(2))
    with open(table, encoding=encoding, errors="replace", newline="") as file:
        if table.suffix == ".csv":
            rows = csv.DictReader(iter(lambda: file.readline(_MAX_LINE), ""))
            while True:
                try:
                    row = next(rows)
                    yield rows.line_num, row
                except StopIteration:
                    return
                except csv.Error as error:
                    raise DataError(f"{table}, line {rows.line_num + 1}: {error}") from None
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, None


def _read(row: Any, table: str) -> tuple[str, list[str], str]:
    """The path below the source, the captions and the class of a row's picture."""
    if not isinstance(row, dict):
        raise DataError("not a row of a table; write {'file_name': ..., 'text': ...}")
    if None in row:  # From csv.
        raise DataError("more cells than the header; put sentences with commas in double quotes")
    file = row.get("file_name")
    if not isinstance(file, str):
        raise DataError(f"file_name is {file!r}; it must be the path of a picture")
    name = str(PurePosixPath(table).parent / check_name(file, Path(table)))
    found = next((row[key] for key in _CAPTION_KEYS if row.get(key) is not None), None)
    captions = [found] if isinstance(found, str) else found
    if isinstance(found, str) and found.startswith("["):  # A list in a cell of a CSV.
        captions = _parse_list(found) or [found]
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise DataError(
            f"{file}: none of {', '.join(_CAPTION_KEYS)} holds a sentence or a list of them"
        )
    label = row.get("label")
    return name, captions, "" if label is None else str(label)


def _parse_list(cell: str) -> Any:
    """A list as JSON or, by pandas, as Python writes it; None for other text."""
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return parse(cell)
    return None


def _item(source: Path, file: str, captions: tuple[str, ...], label: str, stems: set[str]) -> Item:
    name = unique_name(file, stems)
    split, folder = split_and_label(file)
    picture = source / file if os.path.lexists(source / file) else None
    error = unsafe_reason(source, picture) if picture else ""
    return Item(name, picture, captions, label or folder, split, error=error)
