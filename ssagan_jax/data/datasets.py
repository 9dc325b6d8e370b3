"""Opens the data sets that a config names, prepared on disk first where needed."""

from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from ssagan_jax.data.birds import Birds
from ssagan_jax.data.images.resizing import get_load_size
from ssagan_jax.data.pipeline import CaptionedImages
from ssagan_jax.data.prepared.builder import SPLITS, CaptionedImageBuilder
from ssagan_jax.data.prepared.prepared_sets import open_prepared_set
from ssagan_jax.data.prepared.set_writer import ensure_prepared
from ssagan_jax.data.toy_cars.builder import ToyCars

BUILT_IN: dict[str, type[CaptionedImageBuilder]] = {"toy_cars": ToyCars, "birds": Birds}


def open_datasets(config: ConfigDict, splits: Iterable[str] = SPLITS) -> dict[str, CaptionedImages]:
    """The splits of `config.data`; a built-in data set is prepared first if it is not there yet.

    A split that does not fit into `config.data.cache_mb` is decoded into a memory-mapped file
    beside the prepared set, if that stays below `config.data.cache_disk_mb` and the disk has room.

    Raises:
      DataError: the source folder is missing or damaged, or there is no data set of that name.
    """
    data = config.data
    if data.name in BUILT_IN:
        builder = ensure_prepared(
            BUILT_IN[data.name](
                source=data.dir,
                image_size=data.image_size,
                bad_images=data.bad_images,
                data_dir=data.prepared_dir or None,
            )
        )
    else:
        builder = open_prepared_set(data.name, data.image_size, data.prepared_dir)
    # Images are decoded by the pipeline: TFDS would need OpenCV.
    decoders = {"image": tfds.decode.SkipDecoding()}
    load_size = get_load_size(data.image_size)
    return {
        split: CaptionedImages(
            builder.as_data_source(split, decoders=decoders),
            cache_mb=data.cache_mb,
            load_size=load_size,
            file=Path(builder.data_dir, f"decoded-{split}-{load_size}px.u8"),
            disk_mb=data.cache_disk_mb,
            bad_images=data.bad_images,
            title=f"{split} in {builder.data_dir}",
        )
        for split in splits
    }
