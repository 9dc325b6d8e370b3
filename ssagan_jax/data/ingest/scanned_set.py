"""Writes the usable entries of a scanned source as a prepared data set."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from ssagan_jax import __version__
from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.data.class_ids import assign_class_ids
from ssagan_jax.data.engines.ray_cluster import RayCluster
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.registry import make_reader
from ssagan_jax.data.images.resizing import get_load_size
from ssagan_jax.data.ingest.scan import ScanEntry
from ssagan_jax.data.ingest.write_pictures import PictureJob, write_here, write_on_cluster
from ssagan_jax.data.prepared.builder import SPLITS, CaptionedImageBuilder
from ssagan_jax.data.prepared.prepared_sets import REQUEST_FILE, sets_folder
from ssagan_jax.data.prepared.set_writer import (
    Files,
    explain_full_disk,
    lock_set,
    replace_set,
    work_path,
    write_files,
)
from ssagan_jax.data.prepared.shard_writer import Shards
from ssagan_jax.errors import DataError
from ssagan_jax.progress import Progress

JOURNAL = "scanned.jsonl"
"""Name of the scan's journal in the folder of unfinished work."""

_PLAN = "plan"  # What the shards of an unfinished set are made of.


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


@contextlib.contextmanager
def work_folder(request: PrepareRequest) -> Iterator[Path]:
    """The folder of unfinished work on a set, kept if this is interrupted, removed at the end.

    Raises:
      DataError: another process prepares the set.
    """
    folder = sets_folder(request.prepared_dir) / request.name
    with lock_set(folder, wait=False):
        work = work_path(folder)
        work.mkdir(exist_ok=True)
        yield work
        shutil.rmtree(work)


def write_scanned_set(
    request: PrepareRequest,
    entries: Sequence[ScanEntry],
    splits: Sequence[str],
    files: Files,
    work: Path,
    cluster: RayCluster | None = None,
) -> None:
    """Writes the usable pictures in their splits, and `files` beside them, all or nothing.

    Shards that an interrupted process left in `work` are kept, if the scan's journal there and
    the request are the same. The shards are the same bits on a `cluster` and without one.

    Raises:
      DataError: the source has changed since the scan, or the disk is full.
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
    written = work / "set"
    plan = _plan(request, splits, work / JOURNAL)
    if not (written / _PLAN).is_file() or (written / _PLAN).read_text() != plan:
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir()
        write_atomically(written / _PLAN, plan)
    with explain_full_disk(folder):
        ScannedSet(request, entries, splits, work).write(written, cluster)
        write_files(files, written)
    for leftover in written.glob(".*.part"):  # Of a process that was killed while it wrote a file.
        leftover.unlink()
    (written / _PLAN).unlink()
    replace_set(written, folder, work)


def _plan(request: PrepareRequest, splits: Sequence[str], journal: Path) -> str:
    """A digest of what determines the bits of the shards; the journal stands for the source."""
    made_by = (request.source, request.layout, request.image_size, __version__)
    digest = blake2b(repr(made_by).encode(errors="backslashreplace"))
    digest.update("".join(split[0] for split in splits).encode())
    with open(journal, "rb") as file:
        digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


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
        self._entries, self._splits = entries, splits
        self._class_ids = assign_class_ids([entry.label for entry in entries])
        super().__init__(
            source=request.source, image_size=request.image_size, data_dir=str(data_dir)
        )

    def write(self, folder: Path, cluster: RayCluster | None = None) -> None:
        """Writes the shards that are missing in a folder, then TFDS's description of the set."""
        shards = Shards.of(self, folder, {split: self._splits.count(split) for split in SPLITS})
        with Progress(
            total=len(self._entries), desc="writing", unit=" pictures", dynamic_ncols=True
        ) as bar:
            jobs = self._unwritten(shards, bar)
            if cluster:
                for count in write_on_cluster(jobs, self.load_size, cluster):
                    bar.update(count)
            else:
                write_here(jobs, self.load_size, bar.update)
        shards.write_info(self)

    def _unwritten(self, shards: Shards, bar: Progress) -> Iterator[PictureJob]:
        """The pictures whose shards are missing."""
        chosen = zip(self._entries, self._splits, self._class_ids, strict=True)
        entry, split, class_id = next(chosen)
        positions = dict.fromkeys(SPLITS, 0)
        existing = {path.name for path in shards.folder.iterdir()}
        for index, item in enumerate(self._request.items()):
            if index < entry.index:
                continue
            if item.name != entry.name:
                break
            path = shards.path(split, positions[split])
            positions[split] += 1
            if path.name in existing:
                bar.update()
            else:
                yield PictureJob(path, item, class_id)
            entry, split, class_id = next(chosen, (None, "", 0))
            if entry is None:
                return
        raise DataError(f"{self.source}: changed while it was read; run this again")
