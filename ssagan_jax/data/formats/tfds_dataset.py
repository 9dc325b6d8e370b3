"""Any TFDS data set of pictures with sentences, or of pictures with a class and templates."""

import dataclasses
import difflib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ssagan_jax.data.dataset_writer import quiet_tfds
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.tensorflow_import import import_tensorflow

TEMPLATES = (
    "a photo of the {label}.",
    "this picture shows the {label}.",
    "here we see the {label}.",
    "the {label} is the subject of this photo.",
    "one recognises the {label} in this picture.",
)
# What is held out for tests is held out here too. Karpathy and Li's "restval" of COCO is what
# others add to their training pictures.
_SPLITS = {
    "train": "train",
    "restval": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "validation",
}
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
      templates: sentences with "{label}" that stand in where a set has classes but no sentences;
        each picture gets all of them.
      download: whether a set that is not on disk is downloaded.
    """

    data_dir: Path | None = None
    templates: tuple[str, ...] = TEMPLATES
    download: bool = True

    def __post_init__(self) -> None:
        for template in self.templates:
            if "{label}" not in template:
                raise DataError(f"template {template!r}: write {{label}} where the class goes")
        if not self.templates:
            raise DataError("templates: none is given; write one or more, with {label} in each")

    def recognises(self, source: Path) -> bool:
        """Whether TFDS knows the name, or the folder is one that TFDS has written."""
        if source.is_dir():
            return (source / "dataset_info.json").is_file()
        known = tfds.list_builders(with_community_datasets=False)
        return re.split("[:/]", str(source))[0] in known

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures of all splits as they are stored, decoding one at a time.

        The pictures of "train" are training pictures, those of "validation" and "test" are for
        validation; other splits are left open. Names are such as "train/000123". Labels lose a
        number in front and their underscores: "001.Black_footed_Albatross" is "black footed
        albatross".

        Raises:
          DataError: there is no such set, it cannot be downloaded, it has no picture or nothing
            to make sentences of, or a picture is damaged.
        """
        builder = self._prepared(source)
        fields = _fields(builder)
        for split in builder.info.splits:
            for index, example in enumerate(_examples(builder, split)):
                name = f"{split}/{index:06d}"
                label = fields.label_of(example)
                captions = fields.captions_of(example)
                if not fields.captions and label:
                    captions = tuple(each.replace("{label}", label) for each in self.templates)
                picture = _pixels(example[fields.image], f"{builder.info.full_name}, {name}")
                yield Item(name, picture, captions, label, _SPLITS.get(split, ""))

    def _prepared(self, source: Path) -> tfds.core.DatasetBuilder:
        """The set's builder, with the set on disk."""
        import_tensorflow()
        if (source / "dataset_info.json").is_file():
            return tfds.builder_from_directory(source)
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
            raise DataError(f"{builder.data_dir}: not there. Download and prepare it: {command}")
        print(f"downloading {source} -> {builder.data_dir}", flush=True)
        try:
            tfds.enable_progress_bar()
            builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
        except Exception as error:  # Each set's own code runs here.
            raise DataError(
                f"{source}: TFDS could not download and prepare it ({type(error).__name__}: "
                f"{error}). Once that is mended, or where there is a network, run: {command}"
            ) from error
        return builder


def read_templates(path: Path) -> tuple[str, ...]:
    """The lines of a file that hold more than blanks, each a sentence with "{label}".

    Raises:
      DataError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: {error}; write one sentence a line, with {{label}}") from None
    return tuple(line.strip() for line in lines if line.strip())


def clean_label(name: str) -> str:
    """ "laysan albatross" for "002.Laysan_Albatross", "chihuahua" for "n02085620-chihuahua"."""
    return re.sub(r"^(\d+\.|n\d{8}-)", "", name).replace("_", " ").strip().lower()


def _builder(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    try:
        with quiet_tfds():
            return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(re.split("[:/]", name)[0], known)
        hint = f"near it are {', '.join(near)}" if near else "see `tfds.list_builders()`"
        raise DataError(f"{name}: TFDS knows no such data set; {hint}") from None
    except Exception as error:  # A version or a config that is not there, a missing package.
        raise DataError(f"{name}: TFDS cannot open it ({error})") from error


@dataclasses.dataclass(frozen=True)
class _Fields:
    """Where a set's examples hold what is wanted.

    Attributes:
      image: the feature of the picture.
      captions: the feature of the sentences, and below it the one of their text if it has parts.
      label: the feature of the class, "" for none.
      names: the classes' names, cleaned.
    """

    image: str
    captions: tuple[str, ...]
    label: str
    names: tuple[str, ...]

    def captions_of(self, example: dict[str, Any]) -> tuple[str, ...]:
        if not self.captions:
            return ()
        value: Any = example
        for key in self.captions:
            value = value[key]
        texts = value if isinstance(value, list | np.ndarray) else [value]
        return tuple(text.decode(errors="replace") for text in texts)

    def label_of(self, example: dict[str, Any]) -> str:
        # Sets whose test pictures have no class give them -1.
        known = self.label and example[self.label] >= 0
        return self.names[example[self.label]] if known else ""


def _fields(builder: tfds.core.DatasetBuilder) -> _Fields:
    features = builder.info.features
    images = [key for key, each in features.items() if _is_picture(each)]
    labels = [key for key, each in features.items() if isinstance(each, tfds.features.ClassLabel)]
    image, label = _preferred(images, "image"), _preferred(labels, "label")
    captions = next((path for key in _CAPTIONS if (path := _text_path(features, key))), ())
    if not image or not (captions or label):
        raise DataError(
            f"{builder.info.full_name}: needed are a feature 'image' with a picture, and sentences "
            f"under one of {', '.join(_CAPTIONS)}, or else a class under 'label'; it has "
            f"{', '.join(sorted(features))}"
        )
    names = map(features[label].int2str, range(features[label].num_classes)) if label else ()
    return _Fields(image, captions, label, tuple(map(clean_label, names)))


def _is_picture(feature: Any) -> bool:
    plain = isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8
    return plain and feature.shape[-1] in (1, 3)


def _preferred(keys: Sequence[str], name: str) -> str:
    """The key of that name, or the only one there is; "" where that leaves a choice."""
    return name if name in keys else keys[0] if len(keys) == 1 else ""


def _text_path(features: Any, key: str) -> tuple[str, ...]:
    """The keys that lead to a feature's text or texts; none where it holds something else."""
    if key not in features:
        return ()
    feature = features[key]
    inner = getattr(feature, "feature", feature)  # A Sequence's feature is what it is made of.
    if isinstance(inner, tfds.features.FeaturesDict):
        parts = (part for part in _CAPTIONS if part in inner and _is_text(inner[part]))
        return next(((key, part) for part in parts), ())
    return (key,) if _is_text(inner) else ()


def _is_text(feature: Any) -> bool:
    return feature.np_dtype == np.object_ and feature.shape == ()


def _examples(builder: tfds.core.DatasetBuilder, split: str) -> Iterable[dict[str, Any]]:
    """A split's examples in the order of their files, with all pictures still encoded."""
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
    """Decodes a picture to u8[H, W, 3]; grey ones, which colour sets hold too, become RGB."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_ENCODINGS) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders let many kinds out on damaged input.
        raise DataError(f"{name}: cannot be read as a picture ({error})") from error
