"""The memory-mapped file of decoded images: content, when it is written, and damaged files."""

import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from counted_source import CountedSource, encoded
from PIL import Image

from ssagan_jax.data.memory_mapped_cache import decode, decoded_size
from ssagan_jax.data.pipeline import CaptionedImages

COUNT = 7


def picture(number):
    """Noise, each in its own size, so that all parts of all pictures differ."""
    shape = (19 + number % 7, 30 - number % 7, 3)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def example(number):
    captions = [f"café {number} \U0001f426", "a second one"]
    return encoded(number, picture(number), captions, number)


class Source(CountedSource):
    def __init__(self, count=COUNT):
        super().__init__(count, example)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    return tmp_path / "decoded-train-76px.u8"


def mapped(path, source=None, **kwargs):
    return CaptionedImages(source or Source(), file=path, **{"disk_mb": 1} | kwargs)


def assert_records(pictures, count=COUNT):
    assert len(pictures) == len(list(pictures)) == count
    for number, record in enumerate(pictures):
        np.testing.assert_array_equal(record.pop("image"), picture(number))
        assert record == {
            "captions": [f"café {number} \U0001f426", "a second one"],
            "class_id": number % 3,
            "name": f"{number:05d}",
            "attributes": {"number": str(number)},
        }
        text = pictures.metadata(number)
        text.pop("image", None)
        assert text == record


def test_records_are_the_same_from_memory_from_the_file_and_from_the_source(path):
    assert_records(CaptionedImages(Source(), cache_mb=1))
    assert_records(CaptionedImages(Source()))
    assert not path.exists()
    assert_records(mapped(path))
    assert path.exists()


def test_the_file_is_written_once_and_then_read_alone(path, capsys):
    source = Source()
    pictures = mapped(path, source)
    assert f"decoding {COUNT} pictures once, 1 MiB -> {path}" in capsys.readouterr().out
    size = 24 * COUNT + sum(picture(number).size for number in range(COUNT))
    texts = [{k: v for k, v in record.items() if k != "image"} for record in pictures]
    assert path.stat().st_size == size + sum(len(json.dumps(text)) for text in texts)
    source.read.clear()
    assert_records(pictures)
    assert source.read == []
    written = path.stat().st_mtime_ns
    assert_records(mapped(path))
    assert path.stat().st_mtime_ns == written
    assert capsys.readouterr().out == ""
    assert set(os.listdir(path.parent)) == {path.stem + ".lock", path.name, "dataset_info.json"}


def test_metadata_is_read_without_decoding():
    class Broken(Source):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"image": b"no picture"}

    assert CaptionedImages(Broken()).metadata(3)["name"] == "00003"


def test_what_fits_into_memory_or_passes_the_limit_makes_no_file(path):
    assert_records(mapped(path, cache_mb=1))
    assert_records(mapped(path, disk_mb=0))
    large = Source(100_000)  # Some 150 MiB.
    assert 100 < decoded_size(large) / 2**20 < 200
    mapped(path, large, disk_mb=100)
    assert os.listdir(path.parent) == ["dataset_info.json"]


def test_sizes_are_read_from_headers():
    exact = sum(picture(number).size for number in range(COUNT))
    assert decoded_size(Source()) == exact
    assert decoded_size(Source(), load_size=10) < exact / 3


def test_larger_pictures_are_scaled_down_to_the_load_size_and_smaller_ones_stay():
    example = Source()[0]  # 30 x 19 pixels.
    assert decode(example, 10)["image"].shape == (10, 15, 3)
    wanted = Image.fromarray(picture(0)).resize((15, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode(example, 10)["image"], np.asarray(wanted))
    for size in (None, 19, 40):
        np.testing.assert_array_equal(decode(example, size)["image"], picture(0))


def test_scaled_pictures_come_from_memory_and_file_alike(path):
    held, filed = CaptionedImages(Source(), cache_mb=1, load_size=9), mapped(path, load_size=9)
    for one, other in zip(held, filed, strict=True):
        assert min(one["image"].shape[:2]) == 9
        np.testing.assert_array_equal(one["image"], other["image"])


def set_time(path, difference=0):
    time = (path.parent / "dataset_info.json").stat().st_mtime_ns + difference
    os.utime(path, ns=(time, time))


def test_a_clock_that_was_set_back_since_the_set_was_prepared_does_not_matter(path, capsys):
    later = (path.parent / "dataset_info.json").stat().st_mtime + 3600
    os.utime(path.parent / "dataset_info.json", (later, later))
    mapped(path)
    assert "decoding" in capsys.readouterr().out
    assert_records(mapped(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "grown", "other count", "older", "newer", "zeros"]
)
def test_a_file_of_another_set_is_written_again(path, damage):
    mapped(path)
    whole = path.read_bytes()
    if damage in ("older", "newer"):
        path.write_bytes(whole[:-40] + b"\xff" * 40)
        set_time(path, -1 if damage == "older" else 1)
    elif damage == "other count":
        path.unlink()
        mapped(path, Source(COUNT - 1))
    else:
        bad = {"cut": whole[:-1], "empty": b"", "grown": whole + b"x", "zeros": b"\0" * len(whole)}
        path.write_bytes(bad[damage])
        set_time(path)
    assert_records(mapped(path))
    assert path.read_bytes() == whole


def test_a_failed_write_leaves_nothing(path):
    class Ending(Source):
        def __getitem__(self, index):
            if index == 5 and self.read.count(5) > 0:  # The first time, only the size is read.
                raise KeyError("the disk was taken out")
            return super().__getitem__(index)

    with pytest.raises(Exception, match="the disk was taken out"):
        mapped(path, Ending())
    assert set(os.listdir(path.parent)) == {path.stem + ".lock", "dataset_info.json"}
    assert_records(mapped(path))


def test_without_room_pictures_are_decoded_each_time(path, monkeypatch, capsys):
    usage = shutil.disk_usage(path.parent)
    needed = decoded_size(Source())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * needed - 1))
    assert_records(mapped(path))
    assert not path.exists()
    assert "pictures are decoded each time" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * needed))
    assert_records(mapped(path))
    assert path.exists()


def test_a_disk_that_fills_up_and_a_folder_that_cannot_be_written_cost_only_the_file(
    path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert_records(mapped(path))
    assert "No space left" in capsys.readouterr().out
    assert set(os.listdir(path.parent)) == {path.stem + ".lock", "dataset_info.json"}
    assert_records(mapped(path.parent / "missing" / path.name))
    assert "pictures are decoded each time" in capsys.readouterr().out


def test_concurrent_readers_write_the_file_once(path, capfd):
    sources = [Source() for _ in range(4)]
    with ThreadPoolExecutor(len(sources)) as pool:
        for pictures in pool.map(lambda source: mapped(path, source), sources):
            assert_records(pictures)
    assert capfd.readouterr().out.count("decoding") == 1
    # All read the sizes; only one decodes.
    assert sorted(len(source.read) for source in sources) == [COUNT] * 3 + [2 * COUNT]
