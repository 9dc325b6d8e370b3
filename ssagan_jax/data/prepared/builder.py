"""The TFDS builder of captioned images, base of every data set."""

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ssagan_jax.data.captions import is_too_long
from ssagan_jax.data.images.resizing import get_load_size
from ssagan_jax.data.tensorflow_import import quiet_tfds
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.limits import CAPTION_BYTES

SPLITS = ("train", "validation")
BAD_IMAGES = ("error", "skip")
_SPARE_BYTES = 64 * 2**20


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Never queries TFDS's public bucket about a user's own data."""


class CaptionedImageBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of every data set: images with one or more captions, stored as ArrayRecord.

    Features of an example: `image` uint8 [H, W, 3] in 0..255, whose smaller edge is `load_size`
    pixels; `captions`, raw UTF-8 sentences, at least one; `class_id` int32 scalar; `name`, the
    picture's name in the source; `attributes`, a JSON object of strings.

    Subclasses set `VERSION` and `PARTS` and define `_examples`, which raises DataError for a
    source that is damaged or incomplete and passes each unreadable picture to `bad_image`.
    """

    PARTS: tuple[str, ...] = ("",)
    """Folders and files below `source`; if one of them changes, the set is prepared again."""

    def __init__(
        self,
        *,
        source: str = "",
        image_size: int = 64,
        bad_images: str = "error",
        data_dir: str | os.PathLike[str] | None = None,
        **kw: Any,
    ) -> None:
        """Names the prepared set after source, size and policy; reads and writes no picture.

        Args:
          source: folder of the data; empty for generated data.
          image_size: edge in pixels of the images that a model trains on. They are stored at
            `get_load_size(image_size)`, which leaves room for random crops.
          bad_images: "error" stops at the first unreadable picture, "skip" skips and counts it.
          data_dir: root of the prepared sets; TFDS's own default if None.
          **kw: passed on to `tfds.core.GeneratorBasedBuilder`.

        Raises:
          DataError: `image_size` or `bad_images` is not allowed.
        """
        if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
            raise DataError(
                f"image_size={image_size!r}: must be a whole number of pixels, at least 1"
            )
        if bad_images not in BAD_IMAGES:
            raise DataError(f"bad_images={bad_images!r}: must be one of {', '.join(BAD_IMAGES)}")
        self.source = os.path.expanduser(source)
        self.image_size = image_size
        self.load_size = get_load_size(image_size)
        self.bad_images = bad_images
        self.skipped: list[str] = []
        self._arguments = dict(
            source=source, image_size=image_size, bad_images=bad_images, data_dir=data_dir, **kw
        )
        config = tfds.core.BuilderConfig(
            name=f"{image_size}px-{self._fingerprint()}",
            description=f"{image_size} px pictures of {self.source or type(self).__name__}",
        )
        with quiet_tfds():
            super().__init__(
                config=config,
                data_dir=os.path.expanduser(data_dir) if data_dir else None,
                file_format=tfds.core.FileFormat.ARRAY_RECORD,
                **kw,
            )

    def __getstate__(self) -> dict[str, Any]:
        # TFDS would otherwise rebuild an unpickled builder without source, size and policy.
        return {"_original_state": self._arguments}

    def with_data_dir(self, data_dir: str | os.PathLike[str]) -> "CaptionedImageBuilder":
        """The same builder for another root of prepared sets."""
        return type(self)(**self._arguments | {"data_dir": data_dir})

    def _examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Yields dicts that `encode_example` accepts, for the split "train" or "validation"."""
        raise NotImplementedError

    def _encoded_examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Yields the checked examples of a split with images as PNG."""
        return (encode_example(example, self.load_size) for example in self._examples(split))

    def bad_image(self, name: str, error: Exception) -> None:
        """Raises a DataError that names the picture, or adds the picture to `skipped`."""
        if self.bad_images == "error":
            raise DataError(
                f"{name}: {error}. Repair or remove it, or set config.data.bad_images='skip'"
            ) from error
        self.skipped.append(name)

    def _fingerprint(self) -> str:
        """10 hex digits of the source's path, its files (size and time) if any, and the policy."""
        exists = os.path.exists(self.source)
        root = os.path.abspath(self.source) if exists else self.source
        digest = hashlib.sha256(f"{root}\0{self.bad_images}".encode())
        for part in self.PARTS if exists else ():
            for path, stat in _files(os.path.join(root, part)):
                digest.update(f"\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
        return digest.hexdigest()[:10]

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(builder=self, description=type(self).__doc__, features=example_features())

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterable]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields TFDS's (key, example) pairs; keys are positions, so names may repeat."""
        count = written = 0
        for count, example in enumerate(self._encoded_examples(split), start=1):
            written += example["image"].getbuffer().nbytes
            if count % 64 == 1:
                # TFDS collects a split in temporary files and then writes all of it once more.
                check_free_space(self.data_dir, written)
            yield count, example
        if not count:
            skipped = f" ({len(self.skipped)} skipped)" if self.skipped else ""
            raise DataError(f"{self.source or self.name}: no {split} pictures{skipped}")


def example_features() -> tfds.features.FeaturesDict:
    """The features of an example; see `CaptionedImageBuilder`."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "class_id": np.int32,
            "name": tfds.features.Text(),
            "attributes": tfds.features.Text(),
        }
    )


def check_free_space(folder: str | os.PathLike[str], needed: int = 0) -> None:
    """Raises OSError if a disk has no room for so many bytes and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free >> 20} MiB free")


def _files(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yields path and status of a file, or of every file below a folder, in name order."""
    if os.path.isfile(path):
        yield path, os.stat(path)
    elif os.path.isdir(path):
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):  # A link may lead back up.
                    yield from _files(entry.path)
                elif entry.is_file():
                    yield entry.path, entry.stat()


def encode_example(example: dict[str, Any], load_size: int) -> dict[str, Any]:
    """Checks an example and encodes its image as PNG.

    Args:
      example: `image` (RGB PIL image or uint8 [H, W, 3], smaller edge `load_size`), `captions`
        (list of str, not empty), `class_id` (int), `name` (str), `attributes` (str to str).
      load_size: in pixels.

    Raises:
      DataError: the image or a caption is not like that.
    """
    name, captions = example["name"], example["captions"]
    if not captions:
        raise DataError(f"{name}: the picture has no captions; write at least one")
    for position, caption in enumerate(captions):
        if not isinstance(caption, str) or not any(map(str.isalnum, caption)):
            raise DataError(f"{name}: caption {position} is {caption!r:.80}; it must hold a word")
        if is_too_long(caption):
            raise DataError(f"{name}: caption {position} has more than {CAPTION_BYTES} bytes")
    image = example["image"]
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise DataError(f"{name}: {image.dtype} {image.shape} is not uint8 [H, W, 3]")
        image = Image.fromarray(image)
    if image.mode != "RGB" or min(image.size) != load_size:
        raise DataError(
            f"{name}: a {image.mode} picture of {image.size} pixels, not RGB with {load_size} "
            "pixels along the smaller edge"
        )
    png = io.BytesIO()
    image.save(png, format="PNG", compress_level=3)  # A third of the default's time, 5 % larger.
    png.seek(0)
    return {
        "image": png,
        "captions": list(captions),
        "class_id": example["class_id"],
        "name": name,
        "attributes": json.dumps(example["attributes"], ensure_ascii=False, sort_keys=True),
    }
