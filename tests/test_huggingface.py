"""Parquet files and sets of the hub as items, by a stand-in hub on this machine."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hub_server import Hub
from picture_trees import draw, picture, write
from PIL import Image

from ssagan_jax.data.formats.huggingface import HuggingFace
from ssagan_jax.data.formats.registry import format_of
from ssagan_jax.data.ingest.inspect_image import load_item
from ssagan_jax.errors import DataError

datasets = pytest.importorskip("datasets")
import pyarrow as pa  # noqa: E402 (datasets needs it; ssagan_jax does not.)
import pyarrow.parquet as pq  # noqa: E402

SCRIPT = "import pathlib\npathlib.Path('ran').touch()\n"


def encoded(seed):
    file = io.BytesIO()
    Image.fromarray(picture(seed)).save(file, "PNG")
    return file.getvalue()


def pictures(count):
    return [{"bytes": encoded(seed), "path": f"{seed}.png"} for seed in range(count)]


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def items(source, **options):
    reader = HuggingFace(**options)
    found = list(reader.items(source))
    assert found == list(reader.items(source)), "read twice, the items differ"
    return found


def test_parquet_files_of_structs_are_read_by_split(tmp_path):
    texts = [f"a car {number}" for number in range(3)]
    parquet(tmp_path / "data/train-00000-of-00001.parquet", image=pictures(3), caption=texts)
    parquet(tmp_path / "test[1]/0000.parquet", image=pictures(1), caption=["held out"])
    parquet(tmp_path / "validation/0.parquet", image=pictures(1), caption=["held out too"])
    assert format_of(tmp_path) == "huggingface"
    found = items(tmp_path)
    assert [(item.name, item.split, item.captions, item.error) for item in found] == [
        *((f"data/train-00000-of-00001/{n:06d}", "train", (texts[n],), "") for n in range(3)),
        ("test[1]/0000/000000", "", ("held out",), ""),
        ("validation/0/000000", "validation", ("held out too",), ""),
    ]
    for seed, item in enumerate(found[:3]):
        np.testing.assert_array_equal(np.asarray(load_item(item)), picture(seed))


def test_a_column_names_the_splits(tmp_path):
    splits = ["train", "restval", "val", None, "all"]
    parquet(tmp_path / "test-0.parquet", image=pictures(5), caption=["a car"] * 5, split=splits)
    expected = ["train", "train", "validation", "validation", "validation"]
    assert [item.split for item in items(tmp_path)] == expected


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        ({"Text": ["a"]}, {}, ("a",)),
        ({"captions": [["a", "b"]], "caption": ["c"]}, {}, ("a", "b")),
        ({"caption_0": ["a"], "caption_1": ["b"], "caption_id": [7]}, {}, ("a", "b")),
        (
            {"sentences": [[{"raw": "a", "tokens": ["a"]}, {"raw": "b", "tokens": []}]]},
            {},
            ("a", "b"),
        ),
        (
            {"alt": ["a"], "title": ["b"], "text": ["c"]},
            {"caption_columns": ("alt", "title")},
            ("a", "b"),
        ),
        ({"text": [3], "alt_text": ["a"]}, {"caption_columns": ("alt_text",)}, ("a",)),
        ({"text": ["a"], "other": [b"no picture"]}, {"image_column": "image"}, ("a",)),
        ({"text": pa.array([None], pa.string())}, {}, ()),
    ],
)
def test_columns_of_captions_are_guessed_or_named(tmp_path, columns, options, expected):
    parquet(tmp_path / "a.parquet", image=[encoded(1)], **columns)
    (found,) = items(tmp_path, **options)
    assert (found.captions, found.error) == (expected, "")
    assert load_item(found).size == (40, 36)


def test_the_classes_image_and_class_label_are_understood(tmp_path):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["Red_car", "van"])}
    content = {"image": pictures(3), "label": [0, 1, -1]}
    made = datasets.Dataset.from_dict(content, datasets.Features(features))
    made.to_parquet(tmp_path / "train.parquet")
    found = items(tmp_path, templates=("a {label}", "the {label}"))
    assert [(item.label, item.captions) for item in found] == [
        ("red car", ("a red car", "the red car")),
        ("van", ("a van", "the van")),
        ("", ()),
    ]
    assert load_item(found[1]).size == (40, 36)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"alt": ["a"]},
            {},
            "has the columns image, alt: none of captions, .*--caption_column=A,B",
        ),
        ({"text": ["a"]}, {"caption_columns": ("title",)}, "columns image, text, but no 'title'"),
        ({"text": ["a"]}, {"image_column": "photo"}, "columns image, text, but no 'photo'"),
        ({"text": ["a"]}, {"image_column": "text"}, "--image_column=text: holds .*as bytes"),
        ({"n": [1]}, {"caption_columns": ("n",)}, "--caption_column=n: holds .*not sentences"),
        ({"image": [1], "a": [b"x"], "b": [b"y"]}, {}, "choose one by --image_column=a|b"),
        ({"image": ["a"], "text": ["a"]}, {}, "as bytes; write its rows to metadata.csv in"),
        (
            {"image": [1], "image_url": ["http://a/b.jpg"], "alt_text": ["a"], "text": ["a"]},
            {},
            "img2dataset --url_list=DIR .*--url_col=image_url --caption_col=text .*--source=shards",
        ),
    ],
)
def test_columns_that_are_missing_or_unclear_are_named_with_those_that_are_there(
    tmp_path, columns, options, message
):
    parquet(tmp_path / "a.parquet", **({"image": [encoded(1)]} | columns))
    with pytest.raises(DataError, match=message):
        items(tmp_path, **options)


def test_damaged_files_and_rows_are_named_and_the_others_are_read(tmp_path):
    good = parquet(tmp_path / "b.parquet", image=pictures(1), text=["a car"])
    content = good.read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-50])
    (tmp_path / "c.parquet").write_bytes(b"")
    (tmp_path / "d.parquet").symlink_to(draw(tmp_path.parent / f"{tmp_path.name}.png", 1))
    damaged = bytearray(content)
    damaged[4:40] = bytes(36)  # The header of the first page.
    (tmp_path / "e.parquet").write_bytes(damaged)
    secret = write(tmp_path.parent / f"{tmp_path.name}.txt", "secret")
    paths = ["../x.png", str(secret), "gone.png", "in/a.png", None]
    draw(tmp_path / "in/a.png", 2)
    cells = [{"bytes": None, "path": path} for path in paths]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    parquet(tmp_path / "f.parquet", image=pa.array(cells, kind), text=["a"] * 5)
    parquet(tmp_path / "g.parquet", image=pictures(1), title=["another schema"])
    found = {item.name: item for item in items(tmp_path)}
    for name, part in {
        "a.parquet": "a.parquet: ",
        "c.parquet": "c.parquet: ",
        "d.parquet": "a link leads out",
        "e/000000": "row 0 and those after it cannot be read",
        "f/000000": "leads out of the folder",
        "f/000001": "leads out of the folder",
        "f/000002": "No such file",
        "g.parquet": "g.parquet has the columns image, title: none of captions",
    }.items():
        assert part in found[name].error, name
    assert found["b/000000"].captions == ("a car",) and load_item(found["f/000003"]).size
    assert found["f/000004"].picture is None and not found["f/000004"].error


def test_the_extra_is_named_if_it_is_missing(tmp_path, monkeypatch):
    parquet(tmp_path / "a.parquet", image=pictures(1), text=["a"])
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'ssagan_jax\[hf\]'"):
        next(HuggingFace().items(tmp_path))


PROGRAM = """
import json, sys
from pathlib import Path
from ssagan_jax.data.formats.huggingface import HuggingFace
from ssagan_jax.errors import DataError

def read(name):
    try:
        found = HuggingFace().items(Path(f"hf://datasets/user/{name}"))
        return [[i.name, i.split, i.captions, i.error, len(i.picture or b"")] for i in found]
    except DataError as error:
        return str(error)

print(json.dumps([read(name) for name in sys.argv[1:]]))
"""


def read_from_hub(url, folder, *names):
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sets_of_the_hub_are_streamed_and_their_code_is_never_run(tmp_path):
    train = parquet(tmp_path / "a.parquet", image=pictures(3), text=["a", "b", "c"]).read_bytes()
    test = parquet(tmp_path / "b.parquet", image=pictures(1), text=["d"]).read_bytes()
    large = parquet(tmp_path / "c.parquet", image=pictures(1), text=["large"]).read_bytes()
    far = pa.array(
        [
            {"bytes": None, "path": path}
            for path in ("/etc/passwd", "hf://datasets/user/other@main/a")
        ],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    far = parquet(tmp_path / "d.parquet", image=far, text=["x", "y"]).read_bytes()
    card = "---\nconfigs:\n- config_name: small\n  data_files: small/*\n"
    card += "- config_name: large\n  data_files: large/*\n---\n"
    with Hub() as hub:
        hub.repos["user/cars"] = {
            "data/train-00000-of-00001.parquet": train,
            "data/test-00000-of-00001.parquet": test,
        }
        hub.repos["user/sizes"] = {
            "README.md": card.encode(),
            "small/0.parquet": test,
            "large/0.parquet": large,
        }
        hub.repos["user/code"] = {"code.py": SCRIPT.encode()}
        hub.repos["user/far"] = {"train.parquet": far}
        commit = hub.commit("user/cars")
        cars, pinned, sizes, one, code, none, far = read_from_hub(
            hub.url,
            tmp_path,
            "cars",
            f"cars@{commit}",
            "sizes",
            "sizes:large@main",
            "code",
            "none",
            "far",
        )
    size = len(encoded(0))
    assert [row[:4] for row in cars] == [
        *([f"train/{n:06d}", "train", ["abc"[n]], ""] for n in range(3)),
        ["test/000000", "validation", ["d"], ""],
    ]
    assert cars[0][4] == size and pinned == cars
    assert "small" in sizes and "large" in sizes  # Which to choose from.
    assert [row[2] for row in one] == [["large"]]
    assert "scripts are no longer supported" in code and not (tmp_path / "ran").exists()
    assert "user/none" in none and "hf download --repo-type=dataset user/none" in none
    assert all("is no file of user/far" in row[3] and not row[4] for row in far)


def test_without_a_network_the_message_says_how_to_get_the_set(tmp_path):
    (message,) = read_from_hub("http://127.0.0.1:9", tmp_path, "cars")
    assert "could not be read" in message and "hf download --repo-type=dataset user/cars" in message
