"""Rows of the tables in which people keep captions: CSV and its relatives, JSON, JSON lines.

Cells are separated by commas, semicolons, tabs or "|". Without a header, as in Flickr8k's
`NAME.jpg#0<TAB>a caption`, the first cell of a line is the picture and the rest its caption.
"""

import ast
import contextlib
import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ssagan_jax.data.caption_columns import PICTURE_COLUMNS, guess_caption_columns, texts_of
from ssagan_jax.data.formats.folder_names import is_picture, split_from_name, split_of_file
from ssagan_jax.data.formats.safe_paths import check_safe, read_text, text_encoding
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.pickle_names import check_key

_MAX_LINE = 2**20
_MAX_JSON_BYTES = 2**28  # It is read as a whole, also to find out whether it is a table.
# The picture in a line's first cell, without a sentence number such as #0, and the separator.
_PICTURE_CELL = re.compile(r"""\s*"?([^\t|;,"]+?)(?:\#\d+)?"?\s*([\t|;,])""")


class CaptionRow(NamedTuple):
    """What a row says of a picture.

    Attributes:
      file: the picture's path or name as the row has it.
      captions: at least one unless the row has an empty list.
      label: its class, "" if unknown.
      split: "train" or "validation" if the row or the table's name has it, else "".
    """

    file: str
    captions: list[str]
    label: str
    split: str


def read_rows(source: Path, table: Path) -> Iterator[tuple[int, Any]]:
    """Yields the rows of a table with their line numbers; DataError if the table cannot be read.

    Rows are dictionaries with names of columns in lower case; others are None.
    """
    check_safe(source, table)
    if table.suffix.lower() == ".json":
        yield from enumerate(_json_rows(source, table), start=1)
        return
    with open(table, "rb") as start:
        encoding = text_encoding(start.read(2))
    with open(table, encoding=encoding, errors="replace", newline="") as file:
        lines = iter(lambda: file.readline(_MAX_LINE), "")
        rows = _json_lines(lines) if table.suffix.lower() == ".jsonl" else _text_rows(lines, table)
        for number, row in rows:
            yield number, _lower(row) if isinstance(row, dict) else None


def read_row(row: Any, table: str, caption_columns: tuple[str, ...] = ()) -> CaptionRow:
    """What a row of `read_rows` says; raises DataError if it lacks a picture or a sentence."""
    if not isinstance(row, dict):
        raise DataError("not a row of a table; write {'file_name': ..., 'text': ...}")
    if None in row:  # From csv.
        raise DataError("more cells than the header; put sentences with commas in double quotes")
    file = _file_of(row)
    if not isinstance(file, str):
        raise DataError(f"file_name is {file!r}; it must be the path of a picture")
    columns = tuple(map(str.lower, caption_columns)) or _caption_columns(row)
    cells = [_parse_list(row[name]) for name in columns if row.get(name) is not None]
    captions = texts_of(cells) if cells else None
    if captions is None:
        raise DataError(
            f"{file}: none of {', '.join(columns or ('text', 'caption', 'captions'))} holds a "
            "sentence or a list of them"
        )
    label, split = row.get("label"), split_from_name(str(row.get("split")))
    return CaptionRow(
        file, list(captions), "" if label is None else str(label), split or split_of_file(table)
    )


def _caption_columns(row: dict[str, Any]) -> tuple[str, ...]:
    filled = [name for name, value in row.items() if value is not None]
    # Hugging Face's name comes first in its tables.
    return ("text",) if "text" in filled else guess_caption_columns(filled)


def _file_of(row: dict[str, Any]) -> Any:
    name = next((row[column] for column in PICTURE_COLUMNS if row.get(column) is not None), None)
    if isinstance(name, str) and isinstance(row.get("filepath"), str) and "filename" in row:
        name = f"{row['filepath']}/{name}"  # In Karpathy's tables, the folder.
    return name


def _lower(row: dict[Any, Any]) -> dict[Any, Any]:
    """The row without blanks around names of columns and cells; the names in lower case."""
    return {key and _strip(key).lower(): _strip(value) for key, value in row.items()}


def _strip(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _parse_list(cell: Any) -> Any:
    """A list in a cell of a CSV as JSON or, by pandas, as Python writes it; else the cell."""
    if isinstance(cell, str) and cell.startswith("["):
        for parse in (json.loads, ast.literal_eval):
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return parse(cell)
    return cell


def _json_lines(lines: Iterator[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _text_rows(lines: Iterator[str], table: Path) -> Iterator[tuple[int, Any]]:
    first = next(lines, "")
    lines = itertools.chain([first], lines)
    start = _PICTURE_CELL.match(first[:1000])
    if start and is_picture(start[1]):  # There is no header.
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            name, _, caption = line.strip().partition(start[2])
            if re.fullmatch('".*"', caption):
                caption = caption[1:-1].replace('""', '"')
            yield number, {"file_name": re.sub(r"#\d+$", "", name.strip('" ')), "text": caption}
        return
    delimiter = max(",;|\t", key=first.count)
    quoting = csv.QUOTE_NONE if delimiter in "|\t" else csv.QUOTE_MINIMAL
    rows = csv.DictReader(lines, delimiter=delimiter, quoting=quoting)
    while True:
        try:
            row = next(rows)
            yield rows.line_num, row
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{table}, line {rows.line_num + 1}: {error}") from None


def _json_rows(source: Path, table: Path) -> list[Any]:
    """The rows of a list, of a dictionary by file names, or of a table such as COCO's."""
    try:
        content = json.loads(read_text(source, table, _MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{table}: not JSON ({error})") from None
    if isinstance(content, dict):
        images, annotations = content.get("images"), content.get("annotations")
        if isinstance(images, list) and isinstance(annotations, list):
            content = _joined(images, annotations)
        else:
            lists = (content.get(key) for key in ("images", "data", "annotations"))
            by_name = [_row_of(name, value) for name, value in content.items()]
            content = next((found for found in lists if isinstance(found, list)), by_name)
    if not isinstance(content, list):
        return []
    return [_lower(row) if isinstance(row, dict) else None for row in content]


def _row_of(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value | {"file_name": name}
    return {"file_name": name, "captions": value}


def _joined(images: list[Any], annotations: list[Any]) -> list[Any]:
    """Rows of COCO's images and of the captions that refer to them by number."""
    rows = [image | {"captions": []} if isinstance(image, dict) else None for image in images]
    with contextlib.suppress(TypeError, ValueError, AttributeError):  # No numbers.
        for row in filter(None, rows):
            check_key(row.get("id"))
        by_number = {row.get("id"): row for row in rows if row}
        for each in annotations:
            check_key(each.get("image_id"))
            if (row := by_number.get(each.get("image_id"))) and each.get("caption") is not None:
                row["captions"].append(each["caption"])
    return rows
