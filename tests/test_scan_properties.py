"""On random folders, `prepare` writes exactly what it counts."""

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_trees import picture, stored_records
from PIL import Image

from ssagan_jax.data.ingest.scanned_set import PrepareRequest
from ssagan_jax.data.prepared.prepared_sets import set_names, sets_folder
from ssagan_jax.errors import DataError
from ssagan_jax.prepare import prepare

GOOD = ("PNG", "BMP", "GIF", "TIFF", "WEBP")
GOOD += ("grey", "palette", "alpha", "16 bits", "narrow", "copy")
BAD = ("empty", "cut", "text", "link", "pipe")
FOLDERS = ("", "train/", "val/", "audi/", "test/d\u00fcse/")


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one name: a picture of some kind or none, and a text or none."""

    folder: str
    kind: str | None
    text: bytes | None

    def sentences(self):
        text = (self.text or b"").decode("utf-8-sig", "replace")
        lines = re.split(r"\r\n|\r|\n", text)
        return [s for s in lines if any(c.isalpha() or c.isdecimal() for c in s)]


texts = st.one_of(
    st.lists(st.text(max_size=30), max_size=4).map(lambda lines: "\n".join(lines).encode()),
    st.sampled_from([b"a car\n\nit is red", b"\xff\xfea car", b"1\r2\r\n3", b" \r\n\t", None]),
)
kinds = st.sampled_from([*GOOD, *GOOD, *["copy"] * 10, *BAD, None])
pair = st.builds(Pair, st.sampled_from(FOLDERS), kinds, texts)
pairs = st.lists(pair, min_size=8, max_size=14)


def save(path, kind, seed):
    """Writes a picture of a kind; returns the seed that its pixels come from."""
    seed = 0 if kind == "copy" else seed + 1
    image = Image.fromarray(picture(seed, (1, 9) if kind == "narrow" else (13, 9)))
    if kind in ("palette", "grey"):
        image = image.quantize(8) if kind == "palette" else image.convert("L")
    elif kind == "alpha":
        image.putalpha(Image.fromarray(picture(seed, (13, 9))[..., 0]))
    elif kind == "16 bits":
        image = Image.fromarray(picture(seed)[..., 0].astype(np.uint16) * 257)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "empty":
        path.touch()
    else:
        image.save(path, format=kind if kind in GOOD[:5] else "PNG")
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:70])
    return seed


@settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(pairs, st.floats(0.05, 0.95), st.integers(0, 9))
def test_what_is_counted_is_what_is_written(tree, share, seed):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        usable, origins = {}, {}
        for number, pair in enumerate(tree):
            name = f"{pair.folder}car {number:02d}"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if pair.text is not None:
                (root / f"{name}.txt").write_bytes(pair.text)
            if pair.kind is not None:
                origins[name] = save(root / f"{name}.png", pair.kind, number)
            if pair.kind in GOOD and pair.sentences():
                usable[name] = len(pair.sentences())
        request = PrepareRequest("cars", str(root), "sidecar", 32, share, seed, folder, "")
        try:
            prepare(request, skip_bad=True, dry_run=False, report_dir="")
        except DataError as error:
            assert "different: at least two are needed" in str(error)
            assert too_few(usable, origins)
            assert set_names(folder) == []
            return
        check(folder, tree, usable, origins)


def too_few(usable, origins):
    """Whether there may be too little to train on or to hold out."""
    held_out = {origins[name] for name in usable if name.startswith(("val/", "test/"))}
    rest = [name for name in usable if origins[name] not in held_out]
    different = len({origins[name] for name in usable})
    return len(rest) < 2 if held_out and rest else different < 3


def check(folder, tree, usable, origins):
    """Compares the prepared set, its report and its list of names with the source."""
    place = sets_folder(folder) / "cars"
    report = json.loads((place / "report.json").read_text())
    names = json.loads((place / "splits.json").read_text())
    stored = stored_records(folder, "cars")
    assert {split: sorted(part) for split, part in names.items()} == {
        split: sorted(part) for split, part in stored.items()
    }
    written = stored["train"] | stored["validation"]
    in_both = {error["name"] for error in report["errors"] if error["kind"].startswith("training")}
    assert set(written) == set(usable) - in_both
    assert {name: len(example["captions"]) for name, example in written.items()} == {
        name: usable[name] for name in written
    }
    assert report["pictures"] == len(written)
    assert report["sentences"] == sum(usable[name] for name in written)
    assert [report[split] for split in stored] == [len(part) for part in stored.values()]
    listed = sum(pair.kind is not None or pair.text is not None for pair in tree)
    assert report["entries"] == listed == len(written) + len(report["errors"])
    splits = [{origins[name] for name in part} for part in stored.values()]
    assert not splits[0] & splits[1], "a copy is in the other split"
    if any(name.startswith(("val/", "test/")) for name in stored["validation"]) and any(
        name.startswith("train/") for name in usable
    ):
        assert not any(name.startswith("train/") for name in stored["validation"])
