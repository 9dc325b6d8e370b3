"""Generates the images that are scored: captions of a split in, images out, on all devices."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssagan_jax.atomic_files import save_png, write_atomically
from ssagan_jax.data.pipeline import Batch, CaptionedImages, Record
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.inference.sampler import generate_images
from ssagan_jax.steps.networks import Networks, seed_key
from ssagan_jax.steps.pmap import BatchFn, pmap_batched


def caption_batches(
    dataset: CaptionedImages, tokenizer: Tokenizer, num: int, max_words: int, batch_size: int
) -> Iterator[tuple[Batch, list[Record]]]:
    """Yields `num` captions of a split, ordered by the names of their images.

    If `num` is below the number of images, the captions are spread evenly over them. If it is
    above, the images are visited repeatedly, each time with the next caption of each.

    Yields:
      number i32[B], counted from 0, tokens i32[B, T], mask bool[B, T] and class_id i32[B]; and for
      each row the record of its image, without the pixels, and with the chosen "caption".
    """
    order = sorted(range(len(dataset)), key=lambda index: dataset.metadata(index)["name"])

    def captioned_record(number: int) -> Record:
        position = number * len(order) // num if num < len(order) else number
        visit, place = divmod(position, len(order))
        record = dataset.metadata(order[place])
        return record | {"caption": record["captions"][visit % len(record["captions"])]}

    for start in range(0, num, batch_size):
        number = np.arange(start, min(start + batch_size, num), dtype=np.int32)
        records = list(map(captioned_record, number.tolist()))
        encoded = [tokenizer.encode(record["caption"], max_words) for record in records]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        class_ids = np.asarray([record["class_id"] for record in records], np.int32)
        yield {"number": number, "tokens": tokens, "mask": mask, "class_id": class_ids}, records


def build_generate_fn(networks: Networks, noise_dim: int, batch_size: int) -> BatchFn:
    """Builds a function that generates images on all devices.

    It takes the result of `generation_variables` with the "seed" of the noise, and rows of number,
    tokens and mask, and returns image u8[B, S, S, 3]. A row's noise depends on its number and the
    seed alone.
    """

    def generate(variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        def noise(number: jax.Array) -> jax.Array:
            key = jax.random.fold_in(seed_key(variables["seed"]), number)
            return jax.random.normal(key, (noise_dim,))

        images, _ = generate_images(
            networks, variables, rows["tokens"], rows["mask"], jax.vmap(noise)(rows["number"])
        )
        return {"image": images}

    return pmap_batched(generate, batch_size)


def save_images(batch: Batch, records: Sequence[Record], folder: Path) -> None:
    """Writes every image as NUMBER.png, with its caption beside it in NUMBER.txt."""
    for image, number, record in zip(batch["image"], batch["number"], records, strict=True):
        save_png(folder / f"{number:06d}.png", Image.fromarray(image))
        write_atomically(folder / f"{number:06d}.txt", record["caption"] + "\n")
