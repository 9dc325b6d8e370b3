"""The formats by name, in the order in which they are tried on a source."""

from pathlib import Path

from ssagan_jax.data.formats.attngan import AttnGan
from ssagan_jax.data.formats.coco import Coco
from ssagan_jax.data.formats.imagefolder import ImageFolder
from ssagan_jax.data.formats.item import Format
from ssagan_jax.data.formats.paper import Paper
from ssagan_jax.data.formats.sidecar import Sidecar
from ssagan_jax.data.formats.tfds_dataset import TfdsSet
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
}


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
        if layout.recognises(source):
            return known
    if paper_layout.recognises(source):
        return STANFORD_CARS
    if not source.is_dir():
        raise DataError(f"--source={source}: there is no such folder, and no TFDS set of that name")
    raise DataError(
        f"--source={source}: its layout is not recognised; put the sentences of car_01.jpg into "
        f"car_01.txt beside it, or name the layout: --format={'|'.join(names)}"
    )
