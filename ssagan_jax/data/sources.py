"""The data sources by name, and their pictures ready to be read."""

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from ssagan_jax.data.birds import Birds
from ssagan_jax.data.builder import CaptionedImageBuilder, prepare
from ssagan_jax.data.pipeline import Pictures
from ssagan_jax.data.toy_cars import ToyCars

SOURCES: dict[str, type[CaptionedImageBuilder]] = {"toy_cars": ToyCars, "birds": Birds}


def open_pictures(config: ConfigDict) -> dict[str, Pictures]:
    """The splits "train" and "validation" of `config.data`, prepared on disk first where needed.

    Raises:
      DataError: the source's folder is missing or not as it should be.
    """
    data = config.data
    builder = prepare(
        SOURCES[data.name](
            source=data.dir,
            image_size=data.image_size,
            bad_images=data.bad_images,
            data_dir=data.prepared_dir or None,
        )
    )
    # Pictures are decoded by the pipeline: TFDS would ask for OpenCV.
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: Pictures(builder.as_data_source(split, decoders=decoders), data.cache_mb)
        for split in ("train", "validation")
    }
