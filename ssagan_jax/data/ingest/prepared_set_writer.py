"""Writing a surveyed source as a prepared data set."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from ssagan_jax.data import captions, dataset_writer
from ssagan_jax.data.builder import SPLITS, CaptionedImageBuilder, encode_example
from ssagan_jax.data.class_ids import assign_class_ids
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.registry import FORMATS
from ssagan_jax.data.formats.tfds_dataset import TfdsSet
from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.ingest.inspect_image import crop_and_resize, load_item
from ssagan_jax.data.ingest.scan import ScanEntry
from ssagan_jax.data.ordered_map import ordered_map
from ssagan_jax.data.prepared_sets import ABOUT_FILE, writing_set


@dataclasses.dataclass(frozen=True)
class PrepareRequest:
    """What to prepare, and how.

    Attributes:
      layout: the source's format.
      command: what the user typed for it.
      templates: sentences for TFDS sets that have classes alone; empty for the built-in ones.
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

    @property
    def load_size(self) -> int:
        """Pixels of the pictures' smaller edge, with room for random crops."""
        return self.image_size * 76 // 64

    def items(self) -> Iterator[Item]:
        """All that the source lists."""
        reader = TfdsSet(templates=self.templates) if self.templates else FORMATS[self.layout]
        return reader.items(Path(self.source))


def write(
    request: PrepareRequest,
    entries: Sequence[ScanEntry],
    sides: Sequence[str],
    files: dict[str, str | Image.Image],
) -> None:
    """Writes a set, whole or not at all.

    Args:
      request: what it is.
      entries: the usable pictures.
      sides: "train" or "validation" for each of them.
      files: text and PNG pictures to put beside the data, by their names.

    Raises:
      DataError: the source changed meanwhile, another process writes the set, or the disk is full.
    """
    names = {
        s: [e.name for e, side in zip(entries, sides, strict=True) if side == s] for s in SPLITS
    }
    files = files | {
        "splits.json": json.dumps(names, indent=1, ensure_ascii=False) + "\n",
        ABOUT_FILE: json.dumps(dataclasses.asdict(request), indent=1, ensure_ascii=False) + "\n",
    }
    with writing_set(request.name, request.prepared_dir) as (work, publish):
        builder = Prepared(request, entries, sides, work)
        dataset_writer.write(builder)
        folder = Path(builder.data_dir)
        written = {s: builder.info.splits[s].num_examples for s in SPLITS}
        if written != {s: len(names[s]) for s in SPLITS}:
            raise DataError(f"{request.source}: changed while it was read; run this again")
        write_files(files, folder)
        publish(folder)


def write_files(files: dict[str, str | Image.Image], folder: Path) -> None:
    """Writes text and PNG pictures by their names."""
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).write_text(content, encoding="utf-8", errors="backslashreplace")
        else:
            content.save(folder / name)


class Prepared(CaptionedImageBuilder, skip_registration=True):
    """Captioned pictures, prepared from a folder of one's own."""

    VERSION = tfds.core.Version("1.0.0")
    PARTS = ()

    def __init__(
        self,
        request: PrepareRequest,
        entries: Sequence[ScanEntry],
        sides: Sequence[str],
        work: Path,
    ) -> None:
        self._request = request
        self._chosen = {
            entry.index: (entry.name, side) for entry, side in zip(entries, sides, strict=True)
        }
        class_ids = assign_class_ids([entry.label for entry in entries])
        self._class_ids = {e.name: n for e, n in zip(entries, class_ids, strict=True)}
        super().__init__(source=request.source, image_size=request.image_size, data_dir=str(work))

    def _encoded_examples(self, split: str) -> Iterator[dict[str, Any]]:
        total = sum(side == split for _, side in self._chosen.values())
        examples = ordered_map(self._example, self._items(split))
        bar = tqdm(examples, f"writing {split}", total, unit=" pictures", dynamic_ncols=True)
        return (example for _, example in bar)

    def _items(self, split: str) -> Iterable[Item]:
        for index, item in enumerate(self._request.items()):
            name, side = self._chosen.get(index, ("", ""))
            if side == split:
                if item.name != name:
                    raise DataError(f"{self.source}: changed while it was read; run this again")
                yield item

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
