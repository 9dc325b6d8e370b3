"""The cache of decoded images: pixels and texts of a split in one memory-mapped file."""

import contextlib
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from PIL import Image

from ssagan_jax.atomic_files import atomic_path
from ssagan_jax.data.images.resizing import resize_smaller_edge
from ssagan_jax.progress import Progress

Record = dict[str, Any]

# Pillow decodes without Python's lock, so threads use all cores; what follows the decoding holds
# the lock, so many more threads would only block each other.
_THREADS = min(os.cpu_count() or 1, 16)
READ_OPTIONS = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=max(_THREADS, 4))
_INDEX = np.dtype("<i8")
_SAMPLED = 64  # Images whose size is read to estimate that of all.


def read_metadata(example: Record) -> Record:
    """The record of an encoded example without its image, which is not decoded."""
    return {
        "captions": [caption.decode("utf-8") for caption in example["captions"]],
        "class_id": int(example["class_id"]),
        "name": example["name"].decode("utf-8"),
        "attributes": json.loads(example["attributes"]),
    }


def decode(example: Record, load_size: int | None = None) -> Record:
    """The record of an example of a TFDS data source, with its image u8[H, W, 3].

    Images with a smaller edge above `load_size` are scaled down to it.
    """
    image = Image.open(io.BytesIO(example["image"]))
    if load_size is not None and min(image.size) > load_size:
        image = resize_smaller_edge(image, load_size)
    return {"image": np.asarray(image)} | read_metadata(example)


def decoded_size(source: Sequence[Record], load_size: int | None = None) -> int:
    """Estimates the bytes of all decoded images from the headers of some of them."""
    count, sizes = len(source), []
    for index in sorted({place * count // _SAMPLED for place in range(_SAMPLED)}):
        with contextlib.suppress(Exception):  # Reported when it is decoded.
            width, height = Image.open(io.BytesIO(source[index]["image"])).size
            scale = min(1.0, load_size / min(width, height)) if load_size else 1.0
            sizes.append(3 * width * height * scale**2)
    return int(np.mean(sizes or [0]) * count)


class MemoryMappedImages(Sequence[Record]):
    """Records read from a file of `open_memory_mapped`; images are views of the mapped file.

    The file holds each image's height, width and bytes of text as little-endian i64[N, 3], then for
    each record the pixels u8[H, W, 3] and the other entries as JSON.

    Raises:
      ValueError: the file is incomplete, or does not hold `count` records.
      OSError: it cannot be read.
    """

    def __init__(self, path: Path, count: int) -> None:
        # A plain array: slices of numpy's memmap class cost several times as much.
        self._bytes = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
        index = self._bytes[: count * 3 * _INDEX.itemsize].view(_INDEX).reshape(count, 3)
        self._shapes = index[:, :2].tolist()
        self._texts = index[:, 2].tolist()
        sizes = index[:, 0] * index[:, 1] * 3 + index[:, 2]
        self._starts = (np.cumsum(sizes) - sizes + index.nbytes).tolist()
        if (index < 0).any() or self._bytes.size != index.nbytes + sizes.sum():
            raise ValueError(f"{path}: {self._bytes.size} bytes do not match its index")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Record:
        height, width = self._shapes[index]
        pixels = self._bytes[self._starts[index] :][: height * width * 3]
        return {"image": pixels.reshape(height, width, 3)} | self.metadata(index)

    def metadata(self, index: int) -> Record:
        """A record without its image."""
        height, width = self._shapes[index]
        start = self._starts[index] + height * width * 3
        return json.loads(self._bytes[start : start + self._texts[index]].tobytes())


def open_memory_mapped(
    path: Path, count: int, read: Callable[[int], Record], needed: int
) -> MemoryMappedImages | None:
    """Opens the cache of a split, and writes it first if it is missing or of another set.

    Processes that need the same file wait for the one that writes it. Returns None if the file
    cannot be written: without permission, or if it would take more than half of the free space.

    Args:
      path: the file, in the folder of the prepared set.
      count: number of records.
      read: from an index to the decoded record.
      needed: estimated bytes of the file.
    """
    try:
        if file := _open_existing(path, count):
            return file
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if file := _open_existing(path, count):
                return file
            path.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free
            if 2 * needed > free:
                raise OSError(f"{needed >> 20} MiB is more than half of {free >> 20} MiB free")
            size = max(needed >> 20, 1)
            print(f"decoding {count} pictures once, {size} MiB -> {path}", flush=True)
            _write(path, count, read)
            return MemoryMappedImages(path, count)
    except OSError as error:
        print(f"{path}: not written ({error}); pictures are decoded each time", flush=True)
        return None


def _open_existing(path: Path, count: int) -> MemoryMappedImages | None:
    """The file, if it exists, is complete, and belongs to the prepared set beside it."""
    try:
        if path.stat().st_mtime_ns != _time_of_set(path):
            return None
        return MemoryMappedImages(path, count)
    except (FileNotFoundError, ValueError):
        return None


def _time_of_set(path: Path) -> int:
    return (path.parent / "dataset_info.json").stat().st_mtime_ns


def _write(path: Path, count: int, read: Callable[[int], Record]) -> None:
    """Writes all records in order; call it under the lock."""
    for leftover in path.parent.glob(f".{path.name}.*.part"):  # Of processes that were killed.
        leftover.unlink()
    records = grain.MapDataset.range(count).map(read).to_iter_dataset(READ_OPTIONS)
    index = np.zeros((count, 3), _INDEX)
    of_set = _time_of_set(path)
    with atomic_path(path) as part:
        with open(part, "wb") as file:
            file.write(index)
            for row, record in enumerate(
                Progress(records, total=count, unit="pictures", disable=None)
            ):
                image = record.pop("image")
                text = json.dumps(record).encode()
                index[row] = *image.shape[:2], len(text)
                file.write(np.ascontiguousarray(image))
                file.write(text)
            file.seek(0)
            file.write(index)
            file.flush()
            os.fsync(file.fileno())
        # Not its own time: the clock may have been set back since the set was prepared.
        os.utime(part, ns=(of_set, of_set))
