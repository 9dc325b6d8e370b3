"""Writes the usable entries of a scanned source as a prepared data set."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from ssagan_jax.data import captions
from ssagan_jax.data.class_ids import assign_class_ids
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.registry import make_reader
from ssagan_jax.data.images.resizing import crop_and_resize, get_load_size
from ssagan_jax.data.ingest.inspect_image import load_item
from ssagan_jax.data.ingest.scan import ScanEntry
from ssagan_jax.data.ordered_map import ordered_map
from ssagan_jax.data.prepared.builder import SPLITS, CaptionedImageBuilder, encode_example
from ssagan_jax.data.prepared.prepared_sets import REQUEST_FILE, sets_folder
from ssagan_jax.data.prepared.set_writer import Files, lock_set, write_set
from ssagan_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class PrepareRequest:
    """What to prepare, and how.

    Attributes:
      layout: name of the source's format.
      val: fraction of the pictures to hold out.
      command: the command line that asks for it.
      templates: captions for sets that only have classes; empty for the built-in ones.
      caption_columns, image_column: columns of a table; empty to guess them.
    """

    name: str
    source: str
    layout: str
    image_size: int
    val: float
    seed: int
    prepared_dir: str
    command: str
    templates: tuple[str, ...] = ()
    caption_columns: tuple[str, ...] = ()
    image_column: str = ""

    @property
    def load_size(self) -> int:
        """Smaller edge, in pixels, of the images that are written."""
        return get_load_size(self.image_size)

    def items(self) -> Iterator[Item]:
        """All entries that the source lists."""
        reader = make_reader(
            self.layout,
            templates=self.templates,
            caption_columns=self.caption_columns,
            image_column=self.image_column,
        )
        return reader.items(Path(self.source))


def write_scanned_set(
    request: PrepareRequest,
    entries: Sequence[ScanEntry],
    splits: Sequence[str],
    files: Files,
) -> None:
    """Writes the usable pictures in their splits, and `files` beside them, all or nothing.

    Raises:
      DataError: the source has changed since the scan, another process writes the set, or the
        disk is full.
    """
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    for entry, split in zip(entries, splits, strict=True):
        names[split].append(entry.name)
    files = {
        **files,
        "splits.json": _to_json(names),
        REQUEST_FILE: _to_json(dataclasses.asdict(request)),
    }
    folder = sets_folder(request.prepared_dir) / request.name
    with lock_set(folder, wait=False):
        write_set(lambda work: ScannedSet(request, entries, splits, work), folder, files)


def _to_json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


class ScannedSet(CaptionedImageBuilder, skip_registration=True):
    """Captioned pictures of a user's own folder."""

    name = "prepared"

    VERSION = tfds.core.Version("1.0.0")
    PARTS = ()

    def __init__(
        self,
        request: PrepareRequest,
        entries: Sequence[ScanEntry],
        splits: Sequence[str],
        data_dir: Path,
    ) -> None:
        self._request = request
        self._chosen = {
            entry.index: (entry.name, split) for entry, split in zip(entries, splits, strict=True)
        }
        class_ids = assign_class_ids([entry.label for entry in entries])
        self._class_ids = {e.name: n for e, n in zip(entries, class_ids, strict=True)}
        super().__init__(
            source=request.source, image_size=request.image_size, data_dir=str(data_dir)
        )

    def _encoded_examples(self, split: str) -> Iterator[dict[str, Any]]:
        total = sum(chosen == split for _, chosen in self._chosen.values())
        examples = ordered_map(self._example, self._items(split, total))
        bar = tqdm(examples, f"writing {split}", total, unit=" pictures", dynamic_ncols=True)
        return (example for _, example in bar)

    def _items(self, split: str, total: int) -> Iterable[Item]:
        count = 0
        for index, item in enumerate(self._request.items()):
            name, chosen = self._chosen.get(index, ("", ""))
            if chosen == split:
                if item.name != name:
                    break
                count += 1
                yield item
        if count < total:
            raise DataError(f"{self.source}: changed while it was read; run this again")

    def _example(self, item: Item) -> dict[str, Any]:
        try:
            image = crop_and_resize(load_item(item), item.box, self.load_size)
        except DataError as error:
            raise DataError(
                f"{error}; the file changed while it was read: run this again"
            ) from None
        example = {
            "image": image,
            "captions": captions.usable(item.captions),
            "class_id": self._class_ids[item.name],
            "name": item.name,
            "attributes": {"class": item.label} if item.label else {},
        }
        return encode_example(example, self.load_size)
