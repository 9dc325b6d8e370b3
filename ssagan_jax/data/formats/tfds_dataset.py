"""Any TFDS data set of pictures with captions, or with classes that templates make captions of."""

import dataclasses
import difflib
import functools
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.images.decompression_bombs import check_pixels
from ssagan_jax.data.tensorflow_import import import_tensorflow, quiet_tfds
from ssagan_jax.data.tfds_folder import (
    FEATURES_FILE,
    as_data_errors,
    check_features,
    open_tfds_folder,
)
from ssagan_jax.errors import DataError

TEMPLATES = (
    "a photo of the {label}.",
    "this picture shows the {label}.",
    "here we see the {label}.",
    "the {label} is the subject of this photo.",
    "one recognises the {label} in this picture.",
)
# Test pictures are held out too. Karpathy and Li's "restval" of COCO is usually added to the
# training pictures.
_SPLITS = {"train": "train", "restval": "train"}
_SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev", "test"), "validation")
_CAPTIONS = ("captions", "caption", "sentences", "sentence", "texts", "text")
_CAPTIONS += ("descriptions", "description")
_ENCODINGS = ("JPEG", "PNG", "BMP", "GIF")  # What TFDS itself decodes.


@dataclasses.dataclass(frozen=True)
class TfdsSet:
    """A data set by its TFDS name, "coco_captions" or "oxford_flowers102:2.1.1".

    The source may also be a prepared set's folder, the one that holds `dataset_info.json`. Any of
    TFDS's file formats is read; ArrayRecord, in which sets are downloaded, the fastest.

    Attributes:
      data_dir: the folder of TFDS's sets; None for TFDS's own (TFDS_DATA_DIR).
      templates: captions with "{label}" for sets that have classes but no captions; each picture
        gets all of them.
      download: whether a set that is not on disk is downloaded.
    """

    data_dir: Path | None = None
    templates: tuple[str, ...] = TEMPLATES
    download: bool = True

    def __post_init__(self) -> None:
        check_templates(self.templates)

    def recognises(self, source: Path) -> bool:
        """Whether TFDS has a set of that name, or wrote the folder."""
        if source.is_dir():
            if any((source / name).is_file() for name in ("state.json", "dataset_dict.json")):
                raise DataError(
                    f"--source={source}: was written by save_to_disk of the package datasets; "
                    "write it, or each of its splits, as parquet: datasets.load_from_disk("
                    f"{str(source)!r}).to_parquet('data/train.parquet'), then --source=data"
                )
            return (source / "dataset_info.json").is_file()
        known = tfds.list_builders(with_community_datasets=False)
        return re.split("[:/]", str(source))[0] in known

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures of all splits as they are stored, decoding one at a time.

        The pictures of "train" are for training, those of "validation" and "test" for validation;
        other splits are not assigned. Names are such as "train/000123". Labels are cleaned:
        "001.Black_footed_Albatross" becomes "black footed albatross".

        Raises:
          DataError: there is no such set, it cannot be downloaded, it has no pictures, captions
            or classes, or a picture is damaged.
        """
        with as_data_errors(source):
            builder = self._prepared(source)
            fields = _fields(builder)
            for split in builder.info.splits:
                for index, example in enumerate(_examples(builder, split)):
                    yield self._item(builder.info.full_name, fields, split, index, example)

    def _item(
        self, title: str, fields: "_Fields", split: str, index: int, example: dict[str, Any]
    ) -> Item:
        name, label = f"{split}/{index:06d}", fields.label_of(example)
        captions = fields.captions_of(example)
        if not fields.captions and label:
            captions = tuple(each.replace("{label}", label) for each in self.templates)
        picture = _pixels(example[fields.image], f"{title}, {name}")
        return Item(name, picture, captions, label, _SPLITS.get(split, ""))

    def _prepared(self, source: Path) -> tfds.core.DatasetBuilder:
        """The set's builder, with the set on disk."""
        import_tensorflow()
        if (source / "dataset_info.json").is_file():
            return open_tfds_folder(source)
        builder = _builder(str(source), self.data_dir)
        with quiet_tfds():
            if builder.is_prepared():
                return builder
        where = f", data_dir={os.fspath(self.data_dir)!r}" if self.data_dir else ""
        command = (
            'python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder({str(source)!r}{where}).download_and_prepare(file_format='array_record')\""
        )
        if not self.download:
            raise DataError(f"{builder.data_dir}: missing. Download and prepare it: {command}")
        print(f"downloading {source} -> {builder.data_dir}", flush=True)
        try:
            tfds.enable_progress_bar()
            builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
        except Exception as error:  # Each set's own code runs here.
            raise DataError(
                f"{source}: TFDS could not download and prepare it ({type(error).__name__}: "
                f"{error}). Fix that, or on a machine with network access run: {command}"
            ) from error
        return builder


def read_templates(path: Path) -> tuple[str, ...]:
    """The non-blank lines of a file, each a sentence with "{label}".

    Raises:
      DataError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"--templates={path}: there is no such file") from None
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"--templates={path}: cannot be read ({error}); write one sentence per line, in UTF-8, "
            "with {label}"
        ) from None
    return tuple(line.strip() for line in lines if line.strip())


def check_templates(templates: Sequence[str]) -> None:
    """Raises DataError unless there are templates, and each has a place for the class."""
    for template in templates:
        if "{label}" not in template:
            raise DataError(f"template {template!r}: must contain {{label}}")
    if not templates:
        raise DataError("templates: there are none; write at least one, with {label} in each")


def clean_label(name: str) -> str:
    """ "laysan albatross" for "002.Laysan_Albatross", "chihuahua" for "n02085620-chihuahua"."""
    return re.sub(r"^(\d+\.|n\d{8}-)", "", name).replace("_", " ").strip().lower()


def _builder(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    # Of a name that it does not know, TFDS opens a folder.
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    for features in root.glob(f"{re.split('[:/]', name)[0]}/**/{FEATURES_FILE}"):
        check_features(features)
    try:
        with quiet_tfds():
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(re.split("[:/]", name)[0], known)
        hint = f"similar are {', '.join(near)}" if near else "see `tfds.list_builders()`"
        raise DataError(f"{name}: TFDS has no such data set; {hint}") from None
    except Exception as error:  # An unknown version or config, or a missing package.
        raise DataError(f"{name}: TFDS cannot open it ({error})") from error


@dataclasses.dataclass(frozen=True)
class _Fields:
    """The names of the features of a set that are used."""

    image: str
    captions: tuple[str, ...]  # And of the part with the text, if it has parts; () for none.
    label: str  # "" for none.
    classes: tuple[str, ...]  # Cleaned names of the classes.

    def captions_of(self, example: dict[str, Any]) -> tuple[str, ...]:
        if not self.captions:
            return ()
        value = functools.reduce(lambda part, key: part[key], self.captions, example)
        texts = value if isinstance(value, list | np.ndarray) else [value]
        return tuple(text.decode(errors="replace") for text in texts)

    def label_of(self, example: dict[str, Any]) -> str:
        # Test pictures without a class have -1.
        known = self.label and example[self.label] >= 0
        return self.classes[example[self.label]] if known else ""


def _fields(builder: tfds.core.DatasetBuilder) -> _Fields:
    features = builder.info.features
    images = [key for key, each in features.items() if _is_picture(each)]
    labels = [key for key, each in features.items() if isinstance(each, tfds.features.ClassLabel)]
    image, label = _preferred(images, "image"), _preferred(labels, "label")
    captions = next((path for key in _CAPTIONS if (path := _text_path(features, key))), ())
    if not image or not (captions or label):
        raise DataError(
            f"{builder.info.full_name}: needed are a feature 'image', and captions under one of "
            f"{', '.join(_CAPTIONS)}, or else a class under 'label'; it has "
            f"{', '.join(sorted(features))}"
        )
    names = map(features[label].int2str, range(features[label].num_classes)) if label else ()
    return _Fields(image, captions, label, tuple(map(clean_label, names)))


def _is_picture(feature: Any) -> bool:
    plain = isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8
    return plain and feature.shape[-1] in (1, 3)


def _preferred(keys: Sequence[str], name: str) -> str:
    """The key of that name, or the only key; "" if there are several others."""
    return name if name in keys else keys[0] if len(keys) == 1 else ""


def _text_path(features: Any, key: str) -> tuple[str, ...]:
    """The keys that lead to a feature's text or texts; () if it is something else."""
    if key not in features:
        return ()
    feature = features[key]
    inner = getattr(feature, "feature", feature)  # The feature of a Sequence's elements.
    if isinstance(inner, tfds.features.FeaturesDict):
        parts = (part for part in _CAPTIONS if part in inner and _is_text(inner[part]))
        return next(((key, part) for part in parts), ())
    return (key,) if _is_text(inner) else ()


def _is_text(feature: Any) -> bool:
    return feature.np_dtype == np.object_ and feature.shape == ()


def _examples(builder: tfds.core.DatasetBuilder, split: str) -> Iterable[dict[str, Any]]:
    """A split's examples in the order of their files, with images still encoded."""
    decoders = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    array_record = tfds.core.FileFormat.ARRAY_RECORD
    if array_record in builder.info.available_file_formats():
        return builder.as_data_source(split, decoders=decoders, file_format=array_record)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders, read_config=in_order))


def _pixels(encoded: bytes, name: str) -> np.ndarray:
    """Decodes an image to u8[H, W, 3]; grey ones become RGB."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_ENCODINGS) as image:
            check_pixels(image.size)
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged input.
        raise DataError(f"{name}: cannot be read as a picture ({error})") from error
