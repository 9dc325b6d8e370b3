"""Data sets of the Hugging Face hub, and local folders of parquet files.

The source is `hf://datasets/USER/NAME`, optionally with `:CONFIG` and `@REVISION`, or a folder.
Both are read by the package `datasets` (extra [hf]) in streaming mode, row by row, in a process
with limits, as a file of 2 kB can stand for many GB. Code in a repository is never run.
"""

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssagan_jax.data.caption_columns import (
    CAPTION_COLUMNS,
    PICTURE_COLUMNS,
    guess_caption_columns,
    holds_text,
    texts_of,
)
from ssagan_jax.data.formats.folder_names import split_from_name, split_of_file, strip_extension
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import check_name, unsafe_reason, walk_files
from ssagan_jax.data.formats.tfds_dataset import TEMPLATES, check_templates, clean_label
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.limited_process import iterate_limited
from ssagan_jax.untrusted.limits import ROW_BYTES, TEXT_BYTES

_PREFIX = r"hf:/{1,2}datasets/"  # A `Path` has one slash less.
_NAME = r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.+-]+))?(?:@([\w./-]+))?"
_ROWS = 64  # Read from a local file at a time.


@dataclasses.dataclass(frozen=True)
class HuggingFace:
    """Rows with a picture and captions.

    Attributes:
      caption_columns: columns of captions; empty to take those with the first of the usual names.
      image_column: column of the picture; empty for "image" or the only one that holds pictures.
      templates: sentences with "{label}" for sets that have a class column but no captions.
    """

    caption_columns: tuple[str, ...] = ()
    image_column: str = ""
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        check_templates(self.templates)

    def recognises(self, source: Path) -> bool:
        """Whether a folder holds parquet files, or the source is a name on the hub."""
        if source.is_dir():
            return any(file.endswith(".parquet") for file in walk_files(source))
        return re.fullmatch(_PREFIX + _NAME, str(source)) is not None

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the rows of all splits or files, and an item for each file that cannot be read.

        Names are such as "train/000123".

        Raises:
          DataError: `datasets` is not installed, the hub has no such set or cannot be reached, or
            columns are missing.
        """
        # A module that is None cannot be imported, and has no spec.
        if sys.modules.get("datasets", "") is None or not importlib.util.find_spec("datasets"):
            raise DataError(
                "the format huggingface needs the package datasets: pip install 'ssagan_jax[hf]'"
            )
        return iterate_limited(HuggingFace._read_items, self, source, classes=(Item, type(source)))

    def _read_items(self, source: Path) -> Iterator[Item]:
        """`items`, in this process."""
        if not source.is_dir():
            yield from self._hub_items(re.sub("^hf:/+", "hf://", str(source)))
            return
        files = [file for file in walk_files(source) if file.endswith(".parquet")]
        if not files:
            raise DataError(f"{source}: holds no parquet file")
        known = False  # Whether a file's columns are those to read.
        for file in files:
            if error := unsafe_reason(source, source / file):
                yield Item(file, None, (), error=error)
                continue
            # "[" and "*" in a name would be read as a pattern.
            literal = re.sub(r"([*?\[])", r"[\1]", str(source / file))
            try:
                rows = _load("parquet", data_files=literal, split="train", batch_size=_ROWS)
            except DataError as error:
                yield Item(file, None, (), error=f"{source / file}: {error}")
                continue
            try:
                columns = _Columns.choose(rows.features, str(source / file), self)
            except DataError as error:
                if not known:
                    raise
                yield Item(file, None, (), error=str(error))
                continue
            known = True
            stem, split = strip_extension(file), split_of_file(file)
            yield from self._items(rows, columns, stem, split, source)

    def _hub_items(self, source: str) -> Iterator[Item]:
        found = re.fullmatch(f"(?:{_PREFIX})?{_NAME}", source)
        if not found:
            raise DataError(
                f"--source={source}: neither a folder nor hf://datasets/USER/NAME[:CONFIG][@REVISION]"
            )
        name, config, revision = found.groups()
        try:
            splits = _load(name, config, revision=revision)
        except DataError as error:
            raise DataError(
                f"--source={source}: the Hugging Face hub could not be read ({error}). Check the "
                f"name and the network; a private set needs `hf auth login`. On a machine with "
                f"network access: hf download --repo-type=dataset {name} --local-dir=DIR, then "
                "--source=DIR here"
            ) from error
        for split, rows in splits.items():
            columns = _Columns.choose(rows.features, f"{source}, {split}", self)
            yield from self._items(rows, columns, split, split_from_name(split), name)

    def _items(
        self, rows: Any, columns: "_Columns", prefix: str, split: str, home: Path | str
    ) -> Iterator[Item]:
        """The items of an `IterableDataset`, which is a file of the folder or repository `home`."""
        rows = rows.select_columns(columns.names())
        if columns.is_image:
            import datasets

            rows = rows.cast_column(columns.image, datasets.Image(decode=False))
        index = 0
        reading = iter(rows)
        while True:
            name = f"{prefix}/{index:06d}"
            try:
                row = next(reading)
            except StopIteration:
                return
            except Exception as error:  # Of Arrow, of the hub's client, or of the network.
                reason = f"row {index} and those after it cannot be read ({_reason(error)})"
                yield Item(name, None, (), error=reason)
                return
            yield self._item(row, columns, name, split, home)
            index += 1

    def _item(
        self, row: Mapping[str, Any], columns: "_Columns", name: str, split: str, home: Path | str
    ) -> Item:
        label = columns.label_of(row)
        split = split_from_name(str(row.get(columns.split))) or split
        captions = texts_of([row[column] for column in columns.captions])
        if not columns.captions and label:
            captions = tuple(each.replace("{label}", label) for each in self.templates)
        try:
            if captions is None:
                raise DataError(f"{', '.join(columns.captions)}: no sentence or list of them")
            if sum(map(len, captions)) > TEXT_BYTES:
                raise DataError(f"has more than {TEXT_BYTES} letters of sentences")
            picture = _picture(row[columns.image], home)
        except DataError as error:
            return Item(name, None, (), label, split, error=str(error))
        return Item(name, picture, captions, label, split)


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns that are read."""

    image: str
    is_image: bool  # Of the class Image, which would otherwise be decoded.
    captions: tuple[str, ...]
    label: str  # "" for none.
    classes: tuple[str, ...]
    split: str  # "" for none.

    @classmethod
    def choose(cls, features: Mapping[str, Any], where: str, wanted: HuggingFace) -> "_Columns":
        """Raises DataError if a column is missing or cannot be chosen."""
        present = f"{where} has the columns {', '.join(features)}"
        for column in (*wanted.caption_columns, wanted.image_column):
            if column and column not in features:
                raise DataError(f"{present}, but no {column!r}")
        image = wanted.image_column or _guess_image(features, present)
        if not _holds_picture(features[image]):
            raise DataError(
                f"--image_column={image}: holds {features[image]}; it must hold pictures as bytes"
                + _if_urls(features)
            )
        classes = [name for name, each in features.items() if hasattr(each, "int2str")]
        label = "label" if "label" in classes else classes[0] if len(classes) == 1 else ""
        captions = wanted.caption_columns or guess_caption_columns(
            name for name, feature in features.items() if holds_text(feature)
        )
        for column in captions:
            if not holds_text(features[column]):
                raise DataError(
                    f"--caption_column={column}: holds {features[column]}, not sentences"
                )
        if not captions and not label:
            raise DataError(
                f"{present}: none of {', '.join(CAPTION_COLUMNS)} with sentences, and no class "
                "label; name columns of sentences by --caption_column=A,B"
            )
        names = features[label].names if label else ()
        is_image = type(features[image]).__name__ == "Image"
        split = "split" if "split" in features and holds_text(features["split"]) else ""
        return cls(image, is_image, tuple(captions), label, tuple(map(clean_label, names)), split)

    def names(self) -> list[str]:
        names = [self.image, *self.captions, self.label, self.split]
        return list(filter(None, dict.fromkeys(names)))

    def label_of(self, row: Mapping[str, Any]) -> str:
        number = row[self.label] if self.label else None
        return "" if number is None or number < 0 else self.classes[number]


def _load(*names: str | None, **options: Any) -> Any:
    """`datasets.load_dataset` in streaming mode; raises DataError for whatever it raises."""
    import datasets  # Takes seconds.

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        loaded = datasets.load_dataset(*names, streaming=True, **options)
        parts = loaded.values() if isinstance(loaded, dict) else [loaded]
        for part in parts:
            if part.features is None:  # Unknown until a row is read.
                part.info.features = part._resolve_features().features
        return loaded
    except Exception as error:  # Of Arrow, of the hub's client, or of the network.
        raise DataError(_reason(error)) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _guess_image(features: Mapping[str, Any], present: str) -> str:
    found = [name for name, feature in features.items() if _holds_picture(feature)]
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else found[0]
    if found:
        raise DataError(f"{present}; choose one by --image_column={'|'.join(found)}")
    raise DataError(f"{present}; none of them holds pictures as bytes{_if_urls(features)}")


def _if_urls(features: Iterable[str]) -> str:
    """What to do if there are only the pictures' URLs or names."""
    urls = [name for name in features if "url" in name.lower()]
    if not urls:
        named = any(name.lower() in PICTURE_COLUMNS for name in features)
        return "; write its rows to metadata.csv in the same folder" if named else ""
    captions = (*guess_caption_columns(features), "caption")
    return (
        ". Download its pictures first: pip install img2dataset; img2dataset --url_list=DIR "
        f"--input_format=parquet --url_col={urls[0]} --caption_col={captions[0]} "
        "--output_format=webdataset --output_folder=shards; then --source=shards"
    )


def _holds_picture(feature: Any) -> bool:
    """Whether a column has the class Image, or holds bytes or a struct with bytes."""
    if isinstance(feature, dict):
        return "bytes" in feature and _holds_picture(feature["bytes"])
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", "").endswith("binary")


def _picture(cell: Any, home: Path | str) -> Path | bytes | None:
    """The picture of a cell: bytes, or a file below the folder or in the repository `home`."""
    content, path = (
        (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    )
    if content is not None and len(content) > ROW_BYTES:
        raise DataError(f"a picture of {len(content)} bytes; at most {ROW_BYTES} are read")
    if content is not None or path is None:
        return content
    if isinstance(home, Path):
        picture = home / check_name(path, home)
        if reason := unsafe_reason(home, picture):
            raise DataError(reason)
        return picture
    # A row of one repository could name a file of another one, or of this machine.
    if not path.rpartition("::")[2].startswith(f"hf://datasets/{home}@"):
        raise DataError(f"{path!r}: is no file of {home}")
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return file.read(ROW_BYTES)
    except Exception as error:  # Of fsspec, of the hub's client, or of the network.
        raise DataError(f"{path}: {_reason(error)}") from None
