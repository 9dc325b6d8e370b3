"""Tar shards as items: layouts that are read, and members, shards and patterns that are refused."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from picture_trees import SENTENCES, draw, picture, write
from PIL import Image

from ssagan_jax.data.formats.registry import format_of
from ssagan_jax.data.formats.webdataset import WebDataset, expand_braces
from ssagan_jax.data.ingest.inspect_image import load_item
from ssagan_jax.errors import DataError


def encoded(seed, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(picture(seed)).save(file, kind)
    return file.getvalue()


def tar(path, members, format=tarfile.GNU_FORMAT):
    """Writes members: (name, bytes, text, or a changed TarInfo)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def shard(path, count=3, start=0):
    """A shard as img2dataset writes it."""
    members = []
    for number in range(start, start + count):
        details = {"caption": SENTENCES[0], "url": "https://example.org/a.png", "status": "success"}
        members += [
            (f"{number:09d}.png", encoded(number)),
            (f"{number:09d}.txt", f"{SENTENCES[0]}\n{SENTENCES[1]}"),
            (f"{number:09d}.json", json.dumps(details)),
        ]
    return tar(path, members)


def items(source, **options):
    reader = WebDataset(**options)
    found = list(reader.items(source))
    assert found == list(reader.items(source)), "read twice, the items differ"
    assert len({item.name for item in found}) == len(found)
    return found


def errors(source):
    return {item.name: item.error for item in items(source) if item.error}


def test_shards_of_a_folder_are_read_in_order_without_unpacking_them(tmp_path):
    shard(tmp_path / "00001.tar", 2, start=3)
    shard(tmp_path / "00000.tar", 3)
    write(tmp_path / "00000_stats.json", {"count": 3})
    (tmp_path / "00000.parquet").write_bytes(b"img2dataset's log")
    assert format_of(tmp_path) == "webdataset"
    found = items(tmp_path)
    names = [f"{n // 3:05d}/{n:09d}" for n in range(5)]
    assert [item.name for item in found] == names
    for number, item in enumerate(found):
        assert item.captions == SENTENCES and (item.label, item.split, item.error) == ("", "", "")
        np.testing.assert_array_equal(np.asarray(load_item(item)), picture(number))


@pytest.mark.parametrize("pattern", ["{00000..00001}.tar", "0000{0,1}.tar"])
def test_a_pattern_names_shards_and_each_must_be_there(tmp_path, pattern):
    for number in range(3):
        shard(tmp_path / f"{number:05d}.tar", 1, start=number)
    assert format_of(tmp_path / pattern) == "webdataset"
    assert [item.name for item in items(tmp_path / pattern)] == [
        f"0000{n}/00000000{n}" for n in (0, 1)
    ]
    assert len(items(tmp_path / "00002.tar")) == 1
    (tmp_path / "00001.tar").unlink()
    with pytest.raises(DataError, match="1 of 2 shards are missing, the first is .*00001.tar"):
        items(tmp_path / pattern)


def test_a_folder_around_the_splits_of_a_shard_does_not_hide_them(tmp_path):
    names = [f"cars/{split}/{kind}/{n}" for split in ("train", "test") for kind, n in ("a0", "b1")]
    members = [(f"{name}.png", encoded(n)) for n, name in enumerate(names)]
    tar(tmp_path / "x.tar", members)
    tar(tmp_path / "y.tar", [(f"cars/{name}", content) for name, content in members[:2]])
    found = [(item.name, item.split, item.label) for item in items(tmp_path)]
    assert found[0] == ("x/cars/train/a/0", "train", "a")
    assert [split for _, split, _ in found] == ["train"] * 2 + ["validation"] * 2 + ["train"] * 2
    assert {label for _, _, label in found} == {"a", "b"}


def test_braces_keep_their_digits_and_cannot_fill_the_memory():
    assert expand_braces("a/{08..10}-{x,y}.tar")[:3] == ["a/08-x.tar", "a/08-y.tar", "a/09-x.tar"]
    assert expand_braces("a.tar") == ["a.tar"]
    for pattern in ("{0..999999999999}", "{0..9999}" * 9, "{0..99999}{0..99}"):
        with pytest.raises(DataError, match="more than 1000000 shards"):
            expand_braces(pattern)


def test_splits_and_classes_come_from_folders_names_and_cls(tmp_path):
    sample = [("a.jpg", encoded(1, "JPEG")), ("a.txt", "a car")]
    tar(tmp_path / "cars-train-00.tar", sample)
    tar(tmp_path / "val2014/0.tar", [*sample, ("a.cls", "7\n")])
    inner = [("test/audi/b.webp", encoded(1, "WEBP")), ("test/audi/b.txt", "an audi")]
    tar(tmp_path / "z.tar", inner)
    assert [(item.name, item.label, item.split) for item in items(tmp_path)] == [
        ("cars-train-00/a", "", "train"),
        ("z/test/audi/b", "audi", "validation"),
        ("val2014/0/a", "7", "validation"),
    ]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_in_any_order_and_with_long_names_are_joined_by_key(tmp_path, format):
    folder = "x" * 90 + "/" + ("é" if format != tarfile.USTAR_FORMAT else "e") * 40
    names = [f"{folder}/{name}" for name in ("a.png", "b.PNG", "a.txt", "._a.png", "b.txt")]
    contents = [encoded(1), encoded(2), "an a", "not a picture", "a b"]
    tar(tmp_path / "0.tar", zip(names, contents, strict=True), format)
    found = items(tmp_path)
    assert [(item.name, item.captions) for item in found] == [
        (f"0/{folder}/a", ("an a",)),
        (f"0/{folder}/b", ("a b",)),
    ]
    np.testing.assert_array_equal(np.asarray(load_item(found[1])), picture(2))


def test_captions_of_json_are_guessed_or_named(tmp_path):
    members = []
    for number, content in enumerate(
        ({"caption": "a car"}, {"Caption_0": "a", "caption_1": ["b", "c"]}, {"alt": "x"}, [])
    ):
        members += [(f"{number}.png", encoded(number)), (f"{number}.json", json.dumps(content))]
    members += [
        ("4.png", encoded(4)),
        ("4.json", "{"),
        ("5.png", encoded(5)),
        ("5.json", "[" * 9**5),
    ]
    tar(tmp_path / "0.tar", members)
    found = items(tmp_path)
    assert [item.captions for item in found] == [("a car",), ("a", "b", "c"), (), (), (), ()]
    assert [bool(item.error) for item in found] == [False, False, False, True, True, True]
    assert "3.json: not a JSON object" in found[3].error and "4.json: not JSON" in found[4].error
    named = items(tmp_path, caption_columns=("alt",))
    assert named[2].captions == ("x",)
    assert "0.json: no key 'alt'; it has caption" in named[0].error


def special(kind, target="", size=0):
    info = tarfile.TarInfo("x")
    info.type, info.linkname, info.size = kind, target, size
    return info


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../a.png", b"x", "'../a.png' leads out of the folder"),
        ("/etc/a.png", b"x", "'/etc/a.png' leads out of the folder"),
        ("a.png", special(tarfile.SYMTYPE, "/etc/passwd"), "'a.png' is a link; pack the file"),
        ("a.png", special(tarfile.LNKTYPE, "b.png"), "'a.png' is a link"),
        ("a.png", special(tarfile.CHRTYPE), "'a.png' is a device"),
        ("a.png", special(tarfile.BLKTYPE), "'a.png' is a device"),
        ("a.png", special(tarfile.FIFOTYPE), "'a.png' is a pipe"),
        ("a.png", special(b"V"), "'a.png' is of type b'V'"),
        ("a" * 2000 + ".png", b"x", "is not a name such as"),
    ],
)
def test_members_that_are_not_files_inside_are_named_and_the_others_are_read(
    tmp_path, name, content, message
):
    good = [("good.png", encoded(1)), ("good.txt", "a car")]
    tar(tmp_path / "0.tar", [(name, content), ("sub/c.txt", "no picture"), *good])
    found = items(tmp_path)
    assert message in found[0].error and found[0].picture is None
    assert [item.captions for item in found] == [(), ("no picture",), ("a car",)]
    assert found[1].picture is None and load_item(found[2]).size == (40, 36)


def test_two_members_of_one_kind_two_pictures_and_dotted_names_are_named(tmp_path):
    twice = [("a.png", encoded(1)), ("a.txt", "a"), ("./a.png", encoded(2))]
    two = [("b.png", encoded(1)), ("b.jpg", encoded(1, "JPEG")), ("b.txt", "b")]
    dotted = [("c.v2.png", encoded(1)), ("c.txt", "c"), ("d.png", encoded(1)), ("d.mask.png", b"")]
    tar(tmp_path / "0.tar", [*twice, *two, *dotted, ("d.txt", "d"), ("d.npy", b"features")])
    named = errors(tmp_path)
    assert "two members are named './a.png'" in named["0/a"]
    assert "two pictures, b.png and b.jpg" in named["0/b"]
    assert "c.v2.png: the key ends at the first dot" in named["0/c"]
    assert len(named) == 3 and items(tmp_path)[3].captions == ("d",)


def test_a_truncated_or_damaged_shard_is_named_and_what_is_before_is_read(tmp_path):
    content = shard(tmp_path / "00000.tar").read_bytes()
    starts = [item.picture.offset for item in items(tmp_path)]
    cuts = {
        "middle of a picture": (content[: starts[1] + 99], 1, "in the middle of '000000001.png'"),
        "between members": (content[: starts[1] - 512], 1, "without the mark of a tar's end"),
        "middle of a header": (content[: starts[1] - 99], 1, "without the mark of a tar's end"),
        "flipped": (
            content[: starts[1] - 400] + b"x" + content[starts[1] - 399 :],
            1,
            "damaged at",
        ),
        "empty": (b"", 0, "without the mark of a tar's end"),
        "not a tar": (b"<html>not found</html>" * 99, 0, "not a plain tar"),
    }
    for name, (damaged, whole, message) in cuts.items():
        (tmp_path / "00000.tar").write_bytes(damaged)
        found = items(tmp_path)
        assert [item.error for item in found[:-1]] == [""] * whole, name
        assert found[-1].name == "00000.tar" and message in found[-1].error, name


def test_archives_that_claim_or_would_expand_to_more_than_they_hold_are_refused(tmp_path):
    def header(name="a.png", **fields):
        info = tarfile.TarInfo(name)
        for name, value in fields.items():
            setattr(info, name, value)
        return info.tobuf(tarfile.GNU_FORMAT)

    end = bytes(1024)
    long_header = tarfile.XHDTYPE
    huge = bytes(2**17)
    bombs = {
        "size": (header(size=2**60) + end, "in the middle of 'a.png'"),
        "negative": (header(size=-512) + end, "in the middle of 'a.png'"),
        "sparse": (header(size=0, type=tarfile.GNUTYPE_SPARSE) + end, "'a.png' is a sparse file"),
        "pax": (header(size=len(huge), type=long_header) + huge + end, "a header of 131072 bytes"),
    }
    record = b"22 GNU.sparse.major=1\n"
    pax = header(size=len(record), type=long_header) + record.ljust(512, b"\0")
    bombs["pax sparse"] = (pax + header(size=0) + end, "'a.png' is a sparse file")
    record = b"11 size=-1\n"
    pax = header(size=len(record), type=long_header) + record.ljust(512, b"\0")
    bombs["pax size"] = (pax + header(size=0) + end, "in the middle of 'a.png'")
    for name, (content, message) in bombs.items():
        (tmp_path / "0.tar").write_bytes(content)
        assert message in items(tmp_path)[-1].error, name
    # A text of a tebibyte takes no room in a file with a hole.
    (tmp_path / "0.tar").write_bytes(header("a.txt", size=2**40))
    os.truncate(tmp_path / "0.tar", 2**40 + 2048)
    (found,) = items(tmp_path)
    assert "1099511627776 bytes are more than the 1048576 allowed" in found.error


def test_compressed_shards_and_links_are_named(tmp_path):
    shard(tmp_path / "outside.tar")
    data = tmp_path / "data"
    shard(data / "00000.tar", 1)
    (data / "00001.tar.gz").write_bytes(b"\x1f\x8b")
    (data / "00002.tar").symlink_to(tmp_path / "outside.tar")
    os.mkfifo(data / "00003.tar")
    (data / "00004.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    named = errors(data)
    assert list(named) == [f"0000{n}.tar{'.gz' if n == 1 else ''}" for n in range(1, 5)]
    messages = "compressed; unpack it", "a link leads out", "not a plain file", "not a plain tar"
    for error, message in zip(named.values(), messages, strict=True):
        assert message in error
    only = draw(tmp_path / "only" / "a.png", 1).parent
    (only / "cars.tgz").write_bytes(b"")
    assert format_of(only) == "webdataset"


def test_a_damaged_picture_is_named_with_its_shard(tmp_path):
    tar(tmp_path / "0.tar", [("a.png", encoded(1)[:-900]), ("b.png", b""), ("c.png", b"<html>")])
    messages = "0.tar, a.png: cannot be read", "0.tar, b.png: the file is empty", "not a picture"
    for item, message in zip(items(tmp_path), messages, strict=True):
        with pytest.raises(DataError, match=message):
            load_item(item)
