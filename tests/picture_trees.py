"""Small folders of captioned pictures, in the layouts that people have."""

import csv
import json
import os
import pickle

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ssagan_jax.data.prepared.builder import SPLITS
from ssagan_jax.data.prepared.prepared_sets import open_prepared_set

SENTENCES = ("a red car is parked in front of a house.", "the car faces left")


def picture(seed, size=(40, 36)):
    """A picture that differs from that of any other seed in nearly every pixel."""
    width, height = size
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def draw(path, seed, size=(40, 36)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, size)).save(path)
    return path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif path.suffix == ".json":
        path.write_text(json.dumps(content))
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in content))
    elif path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            table = csv.DictWriter(file, content[0].keys())
            table.writeheader()
            table.writerows(content)
    else:
        path.write_text(content)
    return path


class Evil:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def stored_records(prepared_dir, name, size=32):
    """The records of a prepared set by split and name, images still encoded."""
    builder = open_prepared_set(name, size, prepared_dir)
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: {e["name"].decode(): e for e in builder.as_data_source(split, decoders=decoders)}
        for split in SPLITS
    }


def sidecar(root, count=8):
    """00.png ... and 00.txt ... in a folder."""
    for number in range(count):
        draw(root / f"{number:02d}.png", number)
        write(root / f"{number:02d}.txt", f"{SENTENCES[0]}\n\n{SENTENCES[1]} {number}\n")
    return root
