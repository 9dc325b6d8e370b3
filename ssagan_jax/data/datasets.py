"""The data sources by name, and their pictures ready to be read."""

from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from ssagan_jax.data.birds import Birds
from ssagan_jax.data.builder import SPLITS, CaptionedImageBuilder, prepare
from ssagan_jax.data.pipeline import CaptionedImages
from ssagan_jax.data.prepared_sets import prepared_builder
from ssagan_jax.data.toy_cars.builder import ToyCars

SOURCES: dict[str, type[CaptionedImageBuilder]] = {"toy_cars": ToyCars, "birds": Birds}


def open_datasets(config: ConfigDict, splits: Iterable[str] = SPLITS) -> dict[str, CaptionedImages]:
    """Splits ("train", "validation") of `config.data`, prepared on disk first where needed.

    A split that is too large for `config.data.cache_mb` is decoded into a file beside the
    prepared set, if it stays below `config.data.cache_disk_mb` and the disk has room.

    Raises:
      DataError: the source's folder is missing or not as it should be, or there is neither a
        source nor prepared data of that name.
    """
    data = config.data
    if data.name in SOURCES:
        builder = prepare(
            SOURCES[data.name](
                source=data.dir,
                image_size=data.image_size,
                bad_images=data.bad_images,
                data_dir=data.prepared_dir or None,
            )
        )
    else:
        builder = prepared_builder(data.name, data.image_size, data.prepared_dir)
    # Pictures are decoded by the pipeline: TFDS would ask for OpenCV.
    decoders = {"image": tfds.decode.SkipDecoding()}
    load_size = data.image_size * 76 // 64
    return {
        split: CaptionedImages(
            builder.as_data_source(split, decoders=decoders),
            cache_mb=data.cache_mb,
            load_size=load_size,
            file=Path(builder.data_dir, f"decoded-{split}-{load_size}px.u8"),
            disk_mb=data.cache_disk_mb,
            bad_images=data.bad_images,
        )
        for split in splits
    }
