"""Writes a set shard by shard, so that an interrupted writer continues at the missing shards."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from ssagan_jax.data.prepared.builder import CaptionedImageBuilder
from ssagan_jax.data.tensorflow_import import import_tensorflow, quiet_tfds

_SHARD_EXAMPLES = 1024
_MAX_SHARDS = 256  # Of a split: readers keep all of its files open.
_PART = ".part"  # Added to the name of a file that is not complete.


@dataclasses.dataclass(frozen=True)
class Shards:
    """The files of a set in a folder; the number of examples alone determines where each begins.

    Attributes:
      folder: where the files are.
      totals: number of examples of each split.
      template: TFDS's template of the files' names.
    """

    folder: Path
    totals: Mapping[str, int]
    template: tfds.core.ShardedFileTemplate

    @classmethod
    def of(
        cls, builder: CaptionedImageBuilder, folder: Path, totals: Mapping[str, int]
    ) -> "Shards":
        """The shards of a builder's set, to be written to `folder`."""
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=builder.name, filetype_suffix="array_record"
        )
        return cls(folder, totals, template)

    def path(self, split: str, position: int) -> Path:
        """The file of the example at a position of a split."""
        index, count = position // self._size(split), len(self._lengths(split))
        name = self.template.replace(split=split)
        return Path(name.sharded_filepath(shard_index=index, num_shards=count))

    def write_info(self, builder: CaptionedImageBuilder) -> None:
        """Writes TFDS's description of the set, once all files are there, and removes parts."""
        for part in self.folder.glob(f"*{_PART}*"):  # Of processes that were killed.
            part.unlink(missing_ok=True)
        infos = []
        for split in self.totals:
            lengths = self._lengths(split)
            starts = range(0, self.totals[split], self._size(split))
            size = sum(self.path(split, start).stat().st_size for start in starts)
            template = self.template.replace(split=split)
            infos.append(tfds.core.SplitInfo(split, lengths, size, template))
        with quiet_tfds():
            import_tensorflow()
            builder.info.set_splits(tfds.core.splits.SplitDict(infos))
            builder.info.write_to_directory(self.folder)

    def _size(self, split: str) -> int:
        return max(_SHARD_EXAMPLES, -(-self.totals[split] // _MAX_SHARDS))

    def _lengths(self, split: str) -> list[int]:
        size, total = self._size(split), self.totals[split]
        return [min(size, total - start) for start in range(0, total, size)]


def write_shards(examples: Iterable[tuple[Path, bytes]], part: str = _PART) -> None:
    """Writes serialized examples, those of each split in order, to the files of `Shards.path`.

    A file appears under its name when it is complete, and has `part` added to it until then.
    Files that exist must be left out.
    """
    from array_record.python import array_record_module

    writers: dict[str, tuple[Path, Any]] = {}  # The open file of each split.

    def close(split: str) -> None:
        path, writer = writers.pop(split)
        writer.close()
        path.with_name(path.name + part).replace(path)

    try:
        for path, example in examples:
            split = path.name.partition(".")[0]
            if split in writers and writers[split][0] != path:
                close(split)
            if split not in writers:
                # As TFDS writes it: reading one example decodes no other.
                writer = array_record_module.ArrayRecordWriter(f"{path}{part}", "group_size:1")
                writers[split] = (path, writer)
            writers[split][1].write(example)
        for split in list(writers):
            close(split)
    finally:
        for _, writer in writers.values():
            writer.close()
