"""Tables of pictures and captions: Hugging Face's ImageFolder, and tables of other names.

`metadata.jsonl` or `metadata.csv`, in the source or in any folder below it, holds `file_name`, the
path from the table's folder or a name that no other picture has, and `text`, `caption` or
`captions` (a list); `label` may name a class and `split` a split. A picture may have several rows.
A folder may name the split.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.folder_names import (
    SplitFolders,
    is_picture,
    strip_extension,
    unique_name,
)
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import check_name, unsafe_reason, walk_files
from ssagan_jax.data.formats.table_rows import CaptionRow, read_row, read_rows
from ssagan_jax.errors import DataError

TABLES = ("metadata.jsonl", "metadata.csv")
_OTHER_TABLES = (".csv", ".tsv", ".txt", ".token", ".json", ".jsonl")
_SNIFFED_TABLES, _SNIFFED_ROWS = 20, 20
# The path below the source of a picture, by the path of a table and the name that it has there.
FindPicture = Callable[[str, str], str]


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Pictures that are described in tables named metadata.jsonl or metadata.csv.

    Attributes:
      caption_columns: names of the columns with sentences; guessed if empty.
    """

    caption_columns: tuple[str, ...] = ()

    def recognises(self, source: Path) -> bool:
        """Whether there is a table."""
        return source.is_dir() and any(self._tables(source, _picture_finder(source)))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields rows that cannot be used, the pictures of the tables, then those they lack."""
        find = _picture_finder(source)
        pictures: dict[str, CaptionRow] = {}
        for table in self._tables(source, find):
            for number, row in read_rows(source, source / table):
                try:
                    found = read_row(row, table, self.caption_columns)
                    name = find(table, found.file)
                except DataError as error:
                    yield Item(f"{table}:{number}", None, (), error=f"line {number}: {error}")
                    continue
                pictures.setdefault(name, found._replace(captions=[])).captions.extend(
                    found.captions
                )
        for file in self._missing(source, pictures):
            pictures[file] = CaptionRow(file, [], "", "")
        split_and_label, stems = SplitFolders(pictures), set()
        for file, row in pictures.items():
            split, folder = split_and_label(file)
            picture = source / file if os.path.lexists(source / file) else None
            yield Item(
                unique_name(file, stems),
                picture,
                tuple(row.captions),
                row.label or folder,
                row.split or split,
                error=unsafe_reason(source, picture) if picture else "",
            )

    def _tables(self, source: Path, find: FindPicture) -> Iterator[str]:
        return (file for file in walk_files(source) if PurePosixPath(file).name in TABLES)

    def _missing(self, source: Path, pictures: Iterable[str]) -> list[str]:
        """The pictures that the tables should have, too."""
        return [file for file in walk_files(source) if is_picture(file) and file not in pictures]


class CaptionTable(ImageFolder):
    """Pictures that are described in tables of other names, such as Flickr8k's captions.txt."""

    def _tables(self, source: Path, find: FindPicture) -> Iterator[str]:
        stems = set(map(strip_extension, filter(is_picture, walk_files(source))))
        tables = (
            file
            for file in walk_files(source)
            if file.lower().endswith(_OTHER_TABLES)
            and PurePosixPath(file).name not in TABLES
            and strip_extension(file) not in stems  # Of one picture.
        )
        for table in itertools.islice(tables, _SNIFFED_TABLES):
            if self._names_pictures(source, table, find):
                yield table

    def _names_pictures(self, source: Path, table: str, find: FindPicture) -> bool:
        """Whether most of a table's first rows have a picture that is there and a sentence."""
        read = found = 0
        with contextlib.suppress(DataError):
            for _, cells in itertools.islice(read_rows(source, source / table), _SNIFFED_ROWS):
                read += 1
                with contextlib.suppress(DataError):
                    row = read_row(cells, table, self.caption_columns)
                    picture = source / find(table, row.file)
                    found += os.path.lexists(picture) and any(row.captions)
        return found > read / 2

    def _missing(self, source: Path, pictures: Iterable[str]) -> list[str]:
        # Masks and the like are in folders of their own.
        folders = {PurePosixPath(name).parent for name in pictures}
        return [
            file
            for file in super()._missing(source, pictures)
            if PurePosixPath(file).parent in folders
        ]


def _picture_finder(source: Path) -> FindPicture:
    """A function that finds pictures beside their table, below the source, or by their name alone.

    Only pictures of folders that do not exist, as on another machine, are found by name. It raises
    DataError for names outside of the source, and for those that several pictures have.
    """

    @functools.cache
    def index() -> tuple[set[PurePosixPath], dict[str, list[str]]]:
        folders, by_name = set(), {}
        for file in filter(is_picture, walk_files(source)):
            folders.add(PurePosixPath(file).parent)
            for name in (PurePosixPath(file).name, PurePosixPath(strip_extension(file)).name):
                by_name.setdefault(name, []).append(file)
        return folders, by_name

    def find(table: str, file: str) -> str:
        folders, by_name = index()
        path = PurePosixPath(file.replace("\\", "/"))
        beside = PurePosixPath(table).parent / path
        if ".." in path.parts:
            check_name(file, Path(table))
        known = [each for each in dict.fromkeys((beside, path)) if each.parent in folders]
        named = by_name.get(path.name, [])
        matching = [str(each) for each in known if str(each) in named][:1]
        if not known:
            matching = [each for each in named if f"/{each}".endswith(f"/{path}")] or named
        if len(matching) > 1:
            raise DataError(
                f"{file}: {len(matching)} pictures have that name, such as {matching[0]} and "
                f"{matching[1]}; add their folders in the table"
            )
        return matching[0] if matching else check_name(str(beside), Path(table))

    return find
