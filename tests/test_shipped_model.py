"""The model in launch/toy_cars: the files that docs/training.md lists, in a form that loads."""

import hashlib
import re
from pathlib import Path

import numpy as np

import ssagan_jax
from ssagan_jax.data.toy_cars.read_color_and_facing import read_color, read_facing

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "launch" / "toy_cars"


def test_the_docs_list_the_hashes_of_its_files():
    page = (ROOT / "docs" / "training.md").read_text()
    listed = dict(
        re.findall(r"^\| `(\w+\.safetensors)` \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)
    )
    files = FOLDER.glob("*.safetensors")
    assert listed == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_it_paints_what_captions_say():
    captions = {
        ("green", "left"): "A side view of a green roadster facing left.",
        ("purple", "right"): "A side view of a purple van facing right.",
    }
    painted = ssagan_jax.load_model(FOLDER).paint(list(captions.values()), num=4)
    for (color, facing), images in zip(captions, painted, strict=True):
        pixels = np.stack([np.asarray(image) for image in images])
        assert read_color(pixels) == [color] * 4
        assert read_facing(pixels) == [facing] * 4
