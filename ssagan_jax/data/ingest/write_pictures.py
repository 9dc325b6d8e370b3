"""Encodes pictures and writes them to their shards, on this machine or on a cluster."""

import collections
import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssagan_jax.data import captions
from ssagan_jax.data.engines.ray_cluster import RayCluster
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.images.resizing import crop_and_resize
from ssagan_jax.data.ingest.inspect_image import load_item
from ssagan_jax.data.ordered_map import OrderedMap, ordered_map
from ssagan_jax.data.prepared.builder import check_free_space, encode_example, example_features
from ssagan_jax.data.prepared.shard_writer import write_shards
from ssagan_jax.data.tensorflow_import import import_tensorflow, quiet_tfds
from ssagan_jax.errors import DataError

_BLOCK = 64  # Pictures that the driver hands over at once.


class PictureJob(NamedTuple):
    """A picture to write: its shard's file, what the source lists of it, and its class."""

    path: Path
    item: Item
    class_id: int


def write_here(jobs: Iterable[PictureJob], load_size: int, on_written: Callable[[], Any]) -> None:
    """Writes pictures, those of each split in order, to their shards, on all cores.

    Args:
      on_written: called after each picture.

    Raises:
      DataError: a picture has changed since it was scanned.
      OSError: the disk is full.
    """

    def records() -> Iterator[tuple[Path, bytes]]:
        for record in _encode(jobs, load_size, ordered_map):
            yield record
            on_written()

    write_shards(records())


def write_on_cluster(
    jobs: Iterable[PictureJob], load_size: int, cluster: RayCluster
) -> Iterator[int]:
    """Does the same with a task for each shard; yields the number of pictures of each."""
    function = functools.partial(_write_shard, load_size)
    for _, count in cluster.map(function, _by_shard(jobs, cluster), 1):
        yield count


_Blocks = list[Callable[[], Sequence[PictureJob]]]


def _by_shard(jobs: Iterable[PictureJob], cluster: RayCluster) -> Iterator[_Blocks]:
    """Yields the jobs of each shard, which the driver holds only a block of at a time."""
    blocks: dict[Path, _Blocks] = collections.defaultdict(list)
    pending: dict[str, list[PictureJob]] = collections.defaultdict(list)  # Of each split.

    def store(split: str) -> Path:
        path = pending[split][0].path
        blocks[path].append(cluster.store(pending.pop(split)))
        return path

    for job in jobs:
        split = job.path.name.partition(".")[0]
        if pending[split] and pending[split][0].path != job.path:
            yield blocks.pop(store(split))
        elif len(pending[split]) == _BLOCK:
            store(split)
        pending[split].append(job)
    for split in list(pending):
        yield blocks.pop(store(split))


def _write_shard(load_size: int, blocks: _Blocks) -> int:
    """Writes one shard; repeating it replaces the file by the same bits."""
    count = 0

    def jobs() -> Iterator[PictureJob]:
        nonlocal count
        for block in blocks:
            for job in block():
                count += 1
                yield job

    # A machine that was thought lost may still be writing under its own name.
    write_shards(_encode(jobs(), load_size, _map), f".part-{uuid.uuid4().hex}")
    return count


def _map(function: Callable, items: Iterable) -> Iterator[tuple[Any, Any]]:
    return ((item, function(item)) for item in items)


def _encode(
    jobs: Iterable[PictureJob], load_size: int, run: OrderedMap
) -> Iterator[tuple[Path, bytes]]:
    """Yields the serialized examples, each with its shard."""
    features = example_features()
    with quiet_tfds():
        import_tensorflow()
    from tensorflow.train import Example

    encoded = run(lambda job: _example(job, load_size), jobs)
    for count, (job, example) in enumerate(encoded):
        if count % 64 == 0:
            check_free_space(job.path.parent)
        record = features.serialize_example(example)
        # Protobuf orders the entries of a map differently in each process, unless told not to.
        yield job.path, Example.FromString(record).SerializeToString(deterministic=True)


def _example(job: PictureJob, load_size: int) -> dict[str, Any]:
    item = job.item
    try:
        image = crop_and_resize(load_item(item), item.box, load_size)
    except DataError as error:
        raise DataError(f"{error}; the file changed while it was read: run this again") from None
    example = {
        "image": image,
        "captions": captions.usable(item.captions),
        "class_id": job.class_id,
        "name": item.name,
        "attributes": {"class": item.label} if item.label else {},
    }
    return encode_example(example, load_size)
