"""A stand-in for a TFDS data source."""

import io
import json

import numpy as np
from PIL import Image


class CountedSource:
    """Encoded examples that a function makes by their number; counts what is read of them."""

    def __init__(self, count, example):
        self.count = count
        self.read = []
        self._example = example

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        return self._example(index)


def encoded(number, picture, captions, name):
    """An example as of a TFDS data source."""
    png = io.BytesIO()
    Image.fromarray(picture).save(png, format="PNG")
    return {
        "image": png.getvalue(),
        "captions": [caption.encode() for caption in captions],
        "class_id": np.int64(number % 3),
        "name": f"{name:05d}".encode(),
        "attributes": json.dumps({"number": str(number)}).encode(),
    }
