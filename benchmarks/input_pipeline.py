"""Speed of the input pipeline: `python benchmarks/input_pipeline.py --source=FOLDER`.

FOLDER has the AttnGAN layout (birds). Prints a Markdown table with a row for each size and reader:

- memory: decoded images are cached in memory (`config.data.cache_mb`)
- file: decoded images are cached in a memory-mapped file (`config.data.cache_disk_mb`)
- neither: images are decoded each time they are drawn
- DataLoader: PyTorch's, on the same photos with the reference's transforms and a worker per core
  (see `reference_loader.py`); only if torch is installed

and the columns

- cold: images per second in the first epoch, when nothing is decoded yet; includes the time to
  write the file, or to start the DataLoader's workers. Photos may be in the system's file cache.
  The first three read a prepared data set, as training does; the time to prepare it is printed
  above the table.
- warm: images per second in later epochs, the median
- waiting: the fraction of time spent waiting for a batch if each step takes `--step_ms` in which
  the host is idle, as with a GPU: waiting / (waiting + sleeping), in a cold and in a warm epoch
- ratio: cold and warm images per second, divided by the DataLoader's

Readers alternate epoch by epoch, so that other load on the machine affects all of them. A
DataLoader's workers persist between epochs, but it starts each with nothing prefetched, which
matters the more the fewer photos there are.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from reference_loader import run_epoch

from ssagan_jax.data.birds import Birds
from ssagan_jax.data.class_ids import assign_class_ids
from ssagan_jax.data.formats.attngan import AttnGan
from ssagan_jax.data.memory_mapped_cache import READ_OPTIONS
from ssagan_jax.data.pipeline import CaptionedImages, training_batches
from ssagan_jax.data.prepared.set_writer import ensure_prepared
from ssagan_jax.data.tokenizer import Tokenizer, learn_tokenizer
from ssagan_jax.errors import exit_on_user_error

WORDS = 18
_PAUSE = 0.3  # Seconds, in which the last reader's prefetching ends.
READERS = {"memory": dict(cache_mb=2**20), "file": dict(disk_mb=2**20), "neither": {}}


class Ours:
    """Epochs of the project's pipeline over a prepared set."""

    def __init__(
        self, source: Any, tokenizer: Tokenizer, file: Path, size: int, batch_size: int, reader: str
    ) -> None:
        self._source, self._tokenizer, self._file = source, tokenizer, file
        self._size, self._batch_size, self._reader = size, batch_size, reader
        self._batches = None

    def start(self) -> None:
        """Drops all decoded images."""
        self._file.unlink(missing_ok=True)
        self._batches = None

    def epoch(self, step_ms: float) -> tuple[float, float]:
        """Reads all images once; returns seconds, and seconds of waiting."""
        if self._batches is not None and not step_ms:
            # Skip what was prefetched while other readers were measured.
            for _ in range(READ_OPTIONS.prefetch_buffer_size):
                next(self._batches)
        begin = time.perf_counter()
        if self._batches is None:
            self._batches = training_batches(
                CaptionedImages(self._source, file=self._file, **READERS[self._reader]),
                self._tokenizer,
                image_size=self._size,
                max_words=WORDS,
                random_flip=True,
                batch_size=self._batch_size,
                seed=0,
            )
        started = time.perf_counter() - begin
        count = len(self._source) // self._batch_size
        seconds, waited = run_epoch(self._batches, count, step_ms)
        return seconds + started, waited + started

    close = start


class Reference:
    """Epochs of a DataLoader in a separate process."""

    def __init__(self, job: dict[str, Any]) -> None:
        script = Path(__file__).with_name("reference_loader.py")
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._process.stdin.write(json.dumps(job) + "\n")

    def start(self) -> None:
        """Makes a loader whose workers have not been started."""
        self._ask("start")

    def epoch(self, step_ms: float) -> tuple[float, float]:
        """Reads all photos once; returns seconds, and seconds of waiting."""
        return tuple(self._ask(f"epoch {step_ms}"))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, command: str) -> Any:
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _reference_job(source: Path, tokenizer: Tokenizer, size: int, batch_size: int) -> dict:
    """The training photos (path, box, captions as token ids, class), and how to read them."""
    items = [item for item in AttnGan().items(source) if item.split == "train"]
    class_ids = assign_class_ids([item.label for item in items])
    photos = [
        {
            "path": str(item.picture),
            "box": item.box,
            "captions": [tokenizer.ids(caption) for caption in item.captions],
            "class_id": class_id,
        }
        for item, class_id in zip(items, class_ids, strict=True)
    ]
    workers = os.cpu_count() or 1
    return dict(photos=photos, size=size, words=WORDS, batch_size=batch_size, workers=workers)


def _measure(readers: dict[str, Any], flags: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of seconds per epoch and of fractions waited, by reader and column."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"cold": [], "warm": [], "cold waiting": [], "warm waiting": []} for name in readers
    }
    for _ in range(flags.repeats):
        for column, step_ms in (("", 0.0), (" waiting", flags.step_ms)):
            for reader in readers.values():
                reader.start()
            for epoch in range(flags.epochs):
                for name, reader in readers.items():
                    time.sleep(_PAUSE)
                    seconds, waited = reader.epoch(step_ms)
                    value = waited / seconds if column else seconds
                    found[name][("warm" if epoch else "cold") + column].append(value)
    return {
        name: {column: statistics.median(values) for column, values in columns.items()}
        for name, columns in found.items()
    }


def _rows(size: int, pictures: int, measured: dict[str, dict[str, float]]) -> list[str]:
    """The rows of the table for one size."""
    rows = []
    reference = measured.get("DataLoader")
    for name, times in measured.items():
        ratio = "torch is not installed"
        if reference:
            ratio = " / ".join(f"{reference[each] / times[each]:.1f}" for each in ("cold", "warm"))
        rate = " | ".join(f"{pictures / times[each]:.0f}" for each in ("cold", "warm"))
        share = " / ".join(f"{times[each + ' waiting']:.0%}" for each in ("cold", "warm"))
        rows.append(f"| {size} | {name} | {rate} | {share} | {ratio} |")
    return rows


def _benchmark(size: int, folder: str, flags: argparse.Namespace) -> tuple[str, list[str]]:
    """A line on the preparation, and the rows of the table for one size."""
    begin = time.perf_counter()
    builder = ensure_prepared(Birds(source=flags.source, image_size=size, data_dir=folder))
    took = time.perf_counter() - begin
    count = sum(split.num_examples for split in builder.info.splits.values())
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    texts = map(CaptionedImages(source).metadata, range(len(source)))
    captions = (caption for text in texts for caption in text["captions"])
    tokenizer = learn_tokenizer("words", captions, 30_000)
    file = Path(builder.data_dir, "decoded-train.u8")
    readers: dict[str, Any] = {
        name: Ours(source, tokenizer, file, size, flags.batch_size, name) for name in READERS
    }
    if importlib.util.find_spec("torch"):
        job = _reference_job(Path(flags.source), tokenizer, size, flags.batch_size)
        readers["DataLoader"] = Reference(job)
    try:
        measured = _measure(readers, flags)
    finally:
        for reader in readers.values():
            reader.close()
    pictures = len(source) // flags.batch_size * flags.batch_size
    summary = f"prepared {count} pictures at {size} px once, {count / took:.0f} per second"
    return summary, _rows(size, pictures, measured)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help="folder of photos in the AttnGAN layout")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="pixels")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per repeat, the first cold")
    parser.add_argument("--repeats", type=int, default=3, help="cold starts; the table has medians")
    parser.add_argument("--batch_size", type=int, default=16, help="images per step")
    parser.add_argument("--step_ms", type=float, default=50, help="time of a step on the device")
    flags = parser.parse_args()
    if flags.epochs < 2 or flags.repeats < 1:
        parser.error("--epochs must be 2 or more, --repeats 1 or more")
    with exit_on_user_error(), tempfile.TemporaryDirectory() as folder:
        benchmarked = [_benchmark(size, folder, flags) for size in flags.sizes]
    for summary, _ in benchmarked:
        print(summary)
    print(f"{os.cpu_count()} cores, batches of {flags.batch_size}, steps of {flags.step_ms:g} ms\n")
    print("| px | reader | cold, pictures/s | warm, pictures/s | waiting cold / warm | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(row for _, rows in benchmarked for row in rows))


if __name__ == "__main__":
    main()
