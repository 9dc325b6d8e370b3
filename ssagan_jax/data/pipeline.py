"""Batches of a prepared data set: order, crops, flips and captions.

Everything random is keyed by the seed and the example's position in the run, so it does not depend
on threads or devices.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grain
import numpy as np
from tqdm import tqdm

from ssagan_jax.data.captions import mirror_caption
from ssagan_jax.data.images.crop_and_flip import apply_crop, central_crop, draw_crop
from ssagan_jax.data.memory_mapped_cache import (
    READ_OPTIONS,
    MemoryMappedImages,
    Record,
    decode,
    decoded_size,
    open_memory_mapped,
    read_metadata,
)
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.errors import DataError

Batch = dict[str, np.ndarray]


class CaptionedImages(Sequence[Record]):
    """Decoded records of one split, cached in memory or in a memory-mapped file.

    A record has image u8[H, W, 3], captions (list of str), class_id (int), name (str) and
    attributes (dict of str).
    """

    def __init__(
        self,
        source: Sequence[Record],
        cache_mb: int = 0,
        load_size: int | None = None,
        file: Path | None = None,
        disk_mb: int = 0,
        bad_images: str = "error",
        title: str = "the split",
    ) -> None:
        """Wraps a TFDS data source of encoded images.

        Args:
          source: encoded examples.
          cache_mb: MiB of decoded images to keep in memory.
          load_size: images with a larger smaller edge are scaled down to it.
          file: the memory-mapped cache, used if not all images fit into memory.
          disk_mb: largest size of `file` in MiB.
          bad_images: for an example that cannot be read, "error" raises DataError, and "skip"
            counts it and uses the next one instead.
          title: what messages call the split.
        """
        self._source = source
        self._load_size = load_size
        self._free_bytes = cache_mb * 2**20
        self._cache: dict[int, Record] = {}
        self._lock = threading.Lock()
        self._bad_images, self._title = bad_images, title
        self._bad: set[int] = set()
        self._file: MemoryMappedImages | None = None
        if file is not None and disk_mb:
            needed = self.decoded_size()
            if self._free_bytes < needed <= disk_mb * 2**20:
                self._file = open_memory_mapped(file, len(source), self._decoded, needed)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):  # The end of an iteration.
            raise IndexError(f"record {index} of {len(self)}")
        if self._file is not None:
            return self._file[index]
        record = self._cache.get(index)
        if record is None:
            record = self._decoded(index)
            with self._lock:
                size = record["image"].nbytes
                if index not in self._cache and size <= self._free_bytes:
                    self._cache[index] = record
                    self._free_bytes -= size
        return record

    def metadata(self, index: int) -> Record:
        """A record with or without its image, read without decoding one."""
        if self._file is not None:
            return self._file.metadata(index)
        return self._cache.get(index) or self._read(index, read_metadata)

    def decoded_size(self) -> int:
        """An estimate of the bytes of all decoded images."""
        return decoded_size(self._source, self._load_size)

    def _decoded(self, index: int) -> Record:
        return self._read(index, lambda example: decode(example, self._load_size))

    def _read(self, index: int, read: Callable[[Record], Record]) -> Record:
        """Applies `read` to an example, or to the next one that can be read."""
        for place in range(index, index + len(self)):
            place %= len(self)
            try:
                return read(self._source[place])
            except MemoryError:
                raise
            except Exception as error:  # Readers and decoders raise many kinds.
                self._handle_bad(place, error)
        raise DataError(f"none of {len(self)} pictures can be read; prepare the data again")

    def _handle_bad(self, place: int, error: Exception) -> None:
        reason = error or type(error).__name__
        message = f"{self._title}: picture {place} of {len(self)} cannot be read ({reason})"
        if self._bad_images == "error":
            raise DataError(
                f"{message}; prepare the data again, or set config.data.bad_images='skip'"
            ) from error
        with self._lock:
            new = place not in self._bad
            self._bad.add(place)
        if new:
            tqdm.write(f"{message}; using the next one ({len(self._bad)} skipped so far)")


def training_batches(
    images: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    image_size: int,
    max_words: int,
    random_flip: bool,
    batch_size: int,
    seed: int,
    large_batches: tuple[int, int] = (0, 1),
    shard: tuple[int, int] = (0, 1),
    crops_only: bool = False,
    num_captions: int = 1,
) -> grain.DatasetIterator:
    """Endless shuffled batches, whose iterator's position can be saved with a checkpoint.

    Each time an image is drawn it is cropped and flipped at random and paired with a random one of
    its captions. A batch may span two epochs. The position is the number of batches drawn,
    whatever the shard.

    Args:
      images: records with image u8[H, W, 3], such as `CaptionedImages`.
      tokenizer: for the captions.
      image_size: edge S of the crops in pixels.
      max_words: number T of tokens.
      random_flip: whether to mirror half of the images, with their captions; see
        `mirror_caption`.
      batch_size: number B of images, over all shards.
      seed: of everything random.
      large_batches: (steps, n): each of the first steps takes n batches, which are parts of one
        large batch of n * B images.
      shard: (k, n) for the k-th of n equal parts of every batch, from 0; n divides B.
      crops_only: whether batches have what `crop_images` takes from images on the device, crop
        i32[B / n, 4] (index, top, left, mirrored), instead of image.
      num_captions: number K of captions of each image; above 1, a batch has all of them, too, those
        of an image with fewer several times.

    Returns:
      An iterator over dicts: image u8[B / n, S, S, 3], tokens i32[B / n, T], mask bool[B / n, T]
      and class_id i32[B / n]; if K > 1 also all_tokens i32[B / n, K, T] and all_mask
      bool[B / n, K, T], whose first ones are tokens and mask.

    Raises:
      DataError: fewer images than `batch_size`.
    """
    if len(images) < batch_size:
        raise DataError(
            f"{len(images)} training pictures are fewer than config.train.batch_size={batch_size}; "
            f"add pictures, or lower it to {len(images)} with config.damsm.batch_size=0"
        )

    def example(indexed: tuple[int, Record], rng: np.random.Generator) -> Batch:
        index, record = indexed
        captions = record["captions"]
        first = rng.integers(len(captions))
        crop = draw_crop(record["image"].shape, image_size, random_flip, rng)
        captions = [captions[(first + k) % len(captions)] for k in range(num_captions)]
        if crop.mirrored:
            captions = map(mirror_caption, captions)
        encoded = [tokenizer.encode(caption, max_words, rng) for caption in captions]
        all_tokens, all_mask = map(np.stack, zip(*encoded, strict=True))
        text = {"tokens": all_tokens[0], "mask": all_mask[0]}
        if num_captions > 1:
            text |= {"all_tokens": all_tokens, "all_mask": all_mask}
        if crops_only:
            pixels = {"crop": np.asarray((index, *crop), np.int32)}
        else:
            pixels = {"image": apply_crop(record["image"], image_size, crop)}
        return pixels | text | {"class_id": np.int32(record["class_id"])}

    # Grain counts the index on from epoch to epoch.
    indexed = grain.MapDataset.source(images).map_with_index(
        lambda index, record: (index % len(images), record)
    )
    dataset = indexed.seed(seed).shuffle().repeat()
    index, count = shard
    parts = dataset.random_map(example).batch(batch_size // count)
    steps, size = large_batches
    if steps == 0 or size == 1 or count == 1:
        return iter(parts[index::count].to_iter_dataset(READ_OPTIONS))

    def part(position: int) -> Batch:
        step, place = divmod(position, size)
        if step >= steps:
            return parts[position * count + index]
        # A shard has neighbouring rows of a large batch, as it has of one step.
        return parts[(step * count + index) * size + place]

    positions = grain.MapDataset.range(len(parts) // count)
    return iter(positions.map(part).to_iter_dataset(READ_OPTIONS))


def concatenate_batches(batches: Sequence[Batch]) -> Batch:
    """One batch with the rows of several."""
    if len(batches) == 1:
        return batches[0]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def evaluation_batches(
    images: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    image_size: int,
    max_words: int,
    batch_size: int,
) -> Iterator[tuple[Batch, list[Record]]]:
    """All images once, in the order of their names, cropped in the middle, with first captions.

    Yields:
      Batches as in training, the last one possibly smaller, with the records that they were made
      from.
    """
    metadata = images.metadata if isinstance(images, CaptionedImages) else images.__getitem__
    names = [metadata(index)["name"] for index in range(len(images))]
    order = sorted(range(len(images)), key=names.__getitem__)

    def batch(start: int) -> tuple[Batch, list[Record]]:
        part = [images[index] for index in order[start : start + batch_size]]
        encoded = [tokenizer.encode(record["captions"][0], max_words) for record in part]
        arrays = {
            "image": np.stack([central_crop(record["image"], image_size) for record in part]),
            "tokens": np.stack([tokens for tokens, _ in encoded]),
            "mask": np.stack([mask for _, mask in encoded]),
            "class_id": np.asarray([record["class_id"] for record in part], np.int32),
        }
        return arrays, part

    starts = grain.MapDataset.range(0, len(order), batch_size)
    yield from starts.map(batch).to_iter_dataset(READ_OPTIONS)
