"""Generated pictures in a stream: captions in, pictures out, on all devices."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ssagan_jax.data.pipeline import Batch, CaptionedImages, Record
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.inference.sampler import to_uint8
from ssagan_jax.steps.networks import Networks
from ssagan_jax.steps.pmap import BatchFn, pmap_batched
from ssagan_jax.steps.state import TrainState, sampling_variables


def caption_batches(
    pictures: CaptionedImages, tokenizer: Tokenizer, num: int, max_words: int, batch_size: int
) -> Iterator[tuple[Batch, list[Record]]]:
    """`num` captions of a split, in the order of the pictures' names.

    Fewer than there are pictures are spread evenly over them; more go through the pictures again,
    each time with the next caption of each.

    Yields:
      number i32[B], from 0, tokens i32[B, T], mask bool[B, T] and class_id i32[B]; and for each
      row its picture's record, without the picture, and with the "caption" that was taken.
    """
    order = sorted(range(len(pictures)), key=lambda index: pictures.metadata(index)["name"])
    for start in range(0, num, batch_size):
        numbers = range(start, min(start + batch_size, num))
        records = [_captioned(pictures, order, number, num) for number in numbers]
        encoded = [tokenizer.encode(record["caption"], max_words) for record in records]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        class_ids = np.asarray([record["class_id"] for record in records], np.int32)
        number = np.asarray(numbers, np.int32)
        yield {"number": number, "tokens": tokens, "mask": mask, "class_id": class_ids}, records


def _captioned(pictures: CaptionedImages, order: list[int], number: int, num: int) -> Record:
    if num < len(order):
        turn, place = 0, number * len(order) // num
    else:
        turn, place = divmod(number, len(order))
    record = pictures.metadata(order[place])
    return record | {"caption": record["captions"][turn % len(record["captions"])]}


def generate_images(networks: Networks, noise_dim: int, batch_size: int) -> BatchFn:
    """A function that paints captions on all devices.

    It takes what `painting_inputs` gives and rows of number, tokens and mask, and returns image
    u8[B, S, S, 3]. The noise of a row depends on its number and the seed alone.
    """

    def paint(variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        def noise(number: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.key(variables["seed"]), number)
            return jax.random.normal(key, (noise_dim,))

        _, sentence = networks.text_encoder.apply(
            {"params": variables["text"]}, rows["tokens"], rows["mask"], False
        )
        images, _ = networks.generator.apply(
            variables["generator"], jax.vmap(noise)(rows["number"]), sentence, False
        )
        return {"image": to_uint8(images)}

    return pmap_batched(paint, batch_size)


def generation_inputs(state: TrainState, seed: int) -> dict[str, Any]:
    """What `painting` needs of a trained state, with the seed of the noise."""
    return {
        "text": state.encoders["text"],
        "generator": sampling_variables(state),
        "seed": np.uint32(seed),
    }
