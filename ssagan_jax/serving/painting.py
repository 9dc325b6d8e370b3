"""Answers to the page's requests: pictures, fusion masks, and what to tell about them."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ssagan_jax.errors import InputError
from ssagan_jax.inference.trained_model import TrainedModel

MAX_CAPTION_LENGTH = 500  # characters
MAX_IMAGES = 16  # of a request


@dataclasses.dataclass(frozen=True)
class Painting:
    """Images of one request.

    Attributes:
      images: RGB.
      masks: for each image its fusion masks, coarse to fine, gray and as small as their stage;
        empty for an interpolation and for a generator without masks.
      notes: lines of plain text: unknown words, the checkpoint, the time.
    """

    images: list[Image.Image]
    masks: list[list[Image.Image]]
    notes: list[str]


def paint(model: TrainedModel, caption: Any, num: Any, seed: Any, truncation: Any) -> Painting:
    """Generates images of a caption; values come from anyone, and may have any type.

    Raises:
      InputError: a value is not allowed.
    """
    caption = check_caption("the caption", caption)
    num = _check_count("the number of pictures", num, 1)
    start = time.perf_counter()
    images, masks = model.paint(caption, num, _whole(seed), truncation=truncation, masks=True)
    seconds = time.perf_counter() - start
    small = [[mask.resize((4 * 2**i,) * 2, 0) for i, mask in enumerate(row)] for row in masks]
    notes = _unknown_words(model, [caption]) + [_summary(model, num, seconds)]
    return Painting(images, small, notes)


def interpolate(
    model: TrainedModel, caption: Any, to: Any, steps: Any, seed: Any, truncation: Any
) -> Painting:
    """Generates images from one caption to another.

    Raises:
      InputError: a value is not allowed.
    """
    captions = [check_caption("the first caption", caption), check_caption("the second", to)]
    steps = _check_count("the number of pictures", steps, 2)
    start = time.perf_counter()
    images = model.interpolate(*captions, steps=steps, seed=_whole(seed), truncation=truncation)
    seconds = time.perf_counter() - start
    notes = _unknown_words(model, captions) + [_summary(model, steps, seconds)]
    return Painting(images, [], notes)


def check_caption(name: str, caption: Any) -> str:
    """The caption; raises InputError if it is empty or too long."""
    if not isinstance(caption, str) or not caption.strip():
        raise InputError(f"{name} is empty; write a sentence")
    if len(caption) > MAX_CAPTION_LENGTH:
        raise InputError(
            f"{name} has {len(caption)} characters; at most {MAX_CAPTION_LENGTH} are allowed"
        )
    return caption


def _check_count(name: str, value: Any, lowest: int) -> int:
    count = _whole(value)
    if not isinstance(count, int) or not lowest <= count <= MAX_IMAGES:
        raise InputError(f"{name} is {value!r:.40}; it must be from {lowest} to {MAX_IMAGES}")
    return count


def _whole(value: Any) -> Any:
    """A whole number as int, since JSON has only floats; other values stay as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unknown_words(model: TrainedModel, captions: Sequence[str]) -> list[str]:
    words = dict.fromkeys(word for text in captions for word in model.unknown_words(text))
    if not words:
        return []
    return [f"Unknown words, which did not occur in the training captions: {', '.join(words)}"]


def _summary(model: TrainedModel, count: int, seconds: float) -> str:
    return f"{count} picture{'s' * (count > 1)} of step {model.step} in {seconds:.2f} s"
