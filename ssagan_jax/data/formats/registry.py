"""The formats by name, in the order in which they are tried on a source."""

import dataclasses
from pathlib import Path
from typing import Any

from ssagan_jax.data.formats.attngan import AttnGan
from ssagan_jax.data.formats.classes import Classes, describe_pictures, doubt_of_classes
from ssagan_jax.data.formats.coco import Coco
from ssagan_jax.data.formats.huggingface import HuggingFace
from ssagan_jax.data.formats.imagefolder import CaptionTable, ImageFolder
from ssagan_jax.data.formats.item import Format
from ssagan_jax.data.formats.paper import Paper
from ssagan_jax.data.formats.sidecar import Sidecar
from ssagan_jax.data.formats.tfds_dataset import TfdsSet
from ssagan_jax.data.formats.webdataset import WebDataset
from ssagan_jax.data.stanford_cars import paper_layout
from ssagan_jax.errors import DataError

# Not read directly: `write_paper_layout` converts it to the format "paper".
STANFORD_CARS = "stanford_cars"
FORMATS: dict[str, Format] = {
    "tfds": TfdsSet(),
    "attngan": AttnGan(),
    "paper": Paper(),
    "coco": Coco(),
    "imagefolder": ImageFolder(),
    "sidecar": Sidecar(),
    "table": CaptionTable(),
    "webdataset": WebDataset(),
    "huggingface": HuggingFace(),
    "classes": Classes(),
}
_HOW_TO_LIST = (
    "put the sentences of car_01.jpg into car_01.txt beside it, one per line, or list all "
    "pictures in metadata.csv with the columns file_name and text"
)


def format_of(source: Path, name: str = "auto") -> str:
    """The name of the source's format: `name`, or for "auto" the first that recognises it.

    Raises:
      DataError: there is no such format, or none recognises the source.
    """
    names = (*FORMATS, STANFORD_CARS)
    if name != "auto":
        if name not in names:
            raise DataError(f"--format={name}: must be auto or one of {', '.join(names)}")
        return name
    for known, layout in FORMATS.items():
        if known == "classes" and paper_layout.recognises(source):
            return STANFORD_CARS  # They are in folders of classes too.
        if layout.recognises(source):
            if known == "classes" and (doubt := doubt_of_classes(source)):
                raise DataError(
                    f"--source={source}: {doubt}. If each folder's name is what its pictures show, "
                    f"add --format=classes; if not, {_HOW_TO_LIST}"
                )
            return known
    if not source.is_dir():
        raise DataError(
            f"--source={source}: there is no such folder, and no TFDS set of that name; a set of "
            "the Hugging Face hub is named hf://datasets/USER/NAME"
        )
    seen = describe_pictures(source)
    raise DataError(
        f"--source={source}: its layout is not recognised"
        + (f"; it holds {seen}" if seen else "")
        + f". To describe pictures, {_HOW_TO_LIST}, or sort them into a folder for each class "
        f"(red_car/01.jpg), or name the layout: --format={'|'.join(names)}"
    )


def make_reader(layout: str, **options: Any) -> Format:
    """The reader of a format, with those options of its class that are not empty.

    Raises:
      DataError: the format has no such option.
    """
    given = {name: value for name, value in options.items() if value}
    for name in given:
        having = [key for key, reader in FORMATS.items() if hasattr(reader, name)]
        if layout not in having:
            flag = {"caption_columns": "caption_column"}.get(name, name)
            raise DataError(f"--{flag}: is for the formats {', '.join(having)}, not for {layout}")
    return dataclasses.replace(FORMATS[layout], **given) if given else FORMATS[layout]
