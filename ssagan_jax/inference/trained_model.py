"""A trained model: captions in, images out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ssagan_jax.config.validation import check_seed
from ssagan_jax.data.images.open_image import to_upright_rgb
from ssagan_jax.data.images.resizing import resize_smaller_edge
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.inference.image_grid import mask_to_rgb
from ssagan_jax.inference.sampler import Sampler, interpolate_noise, sample_noise, truncate_noise

_MOST = 100_000  # Images of a caption, which are in memory together.


class ImagesWithMasks(NamedTuple):
    """What `TrainedModel.paint` returns with masks; for a list of captions each is a list of these.

    Attributes:
      images: RGB.
      masks: for each image its fusion masks, coarse to fine, gray and as large as the image.
    """

    images: list[Any]
    masks: list[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """Weights with their config and tokenizer, ready to generate images.

    Attributes:
      config: of the run.
      tokenizer: of the run.
      step: of the checkpoint that the weights are from.
      variables: {"text", "generator"}, as `sampler.generation_variables` returns them.
      image_encoder: the image encoder's variables {"params", "trunk"}; None if they are not known.
      example_captions: captions of the data that the model was trained on; may be empty.
      sampler: of the networks that the config describes.
    """

    config: ConfigDict = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    step: int
    variables: dict[str, Any] = dataclasses.field(repr=False)
    image_encoder: dict[str, Any] | None = dataclasses.field(repr=False)
    example_captions: tuple[str, ...]
    sampler: Sampler = dataclasses.field(repr=False)

    def paint(
        self,
        captions: str | Sequence[str],
        num: int = 1,
        seed: int = 0,
        *,
        truncation: float = 1.0,
        masks: bool = False,
        best_of: int = 1,
    ) -> list[Any] | ImagesWithMasks:
        """Generates images of captions.

        Args:
          captions: a sentence, or a list of them.
          num: images of each caption.
          seed: of the noise; the same seed generates the same images, and every caption gets the
            same noise.
          truncation: in [0, 1]; the lower, the more typical and less diverse are the images; see
            `sampler.truncate_noise`.
          masks: whether the fusion masks are returned too.
          best_of: draws so many noises for each image, and keeps the one whose image the run's own
            encoders find closest to the caption. With 1, the image is the first of these.

        Returns:
          For a sentence, a list of `num` Pillow images; for a list of sentences, a list of such
          lists. With `masks`, `ImagesWithMasks` of the same nesting.

        Raises:
          InputError: an argument is not allowed, a caption has no word, or `best_of` needs an image
            encoder that the model does not have.
        """
        texts = check_captions([captions] if isinstance(captions, str) else captions)
        noise = self.draw_noise(texts, num, seed, truncation, best_of)
        repeated = [caption for caption in texts for _ in range(num)]
        if masks:
            pixels, stages = self.generate_with_masks(repeated, np.concatenate(noise))
        else:
            pixels, stages = self.generate(repeated, np.concatenate(noise)), []
        images = [Image.fromarray(image) for image in pixels]
        gray = [
            [Image.fromarray(mask_to_rgb(stage[row])).convert("L") for stage in stages]
            for row in range(len(images))
        ]
        if not isinstance(captions, str):
            images, gray = (
                [parts[start : start + num] for start in range(0, len(parts), num)]
                for parts in (images, gray)
            )
        return ImagesWithMasks(images, gray) if masks else images

    def interpolate(
        self,
        caption: str,
        to: str | None = None,
        steps: int = 8,
        seed: int = 0,
        *,
        to_seed: int | None = None,
        truncation: float = 1.0,
    ) -> list[Image.Image]:
        """Generates images from one caption to another, from one seed to another, or both.

        Sentence embeddings are interpolated linearly, noise on a sphere
        (`sampler.interpolate_noise`).

        Args:
          caption: of the first image.
          to: caption of the last image; None for the same.
          steps: number of images, 2 or more.
          seed: of the noise of the first image; that of `paint` with the same seed.
          to_seed: of the noise of the last image; None for the same.
          truncation: see `paint`.

        Raises:
          InputError: an argument is not allowed, or neither `to` nor `to_seed` is given.
        """
        if to is None and to_seed is None:
            raise InputError("to=None: give a caption to go to, or to_seed, the seed to go to")
        _check("steps", steps, lambda value: _is_int(value) and value >= 2, "2 or more")
        texts = check_captions([caption, caption if to is None else to])
        if to_seed is not None:
            _check("to_seed", to_seed, _is_int, "an integer")
            check_seed(to_seed, "to_seed")
        ends = [
            self.draw_noise(texts[:1], 1, end, truncation, 1)[0, 0]
            for end in (seed, seed if to_seed is None else to_seed)
        ]
        weights = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
        start, end = self._sentences(texts)
        sentences = (1 - weights) * start + weights * end
        noise = interpolate_noise(*ends, weights[:, 0])
        return [Image.fromarray(i) for i in self.sampler.images(self.variables, sentences, noise)]

    def unknown_words(self, caption: str) -> list[str]:
        """Words of a caption that did not occur in training, in order, each once."""
        return self.tokenizer.unknown_words(*check_captions([caption]))

    def score(
        self, images: Sequence[Image.Image | np.ndarray], captions: str | Sequence[str]
    ) -> np.ndarray:
        """How well images match captions, by the run's own encoders.

        Args:
          images: B Pillow images or arrays u8[H, W, 3] of any size. Their centre squares are
            scaled to the size of the model's images.
          captions: B sentences, or one for all images.

        Returns:
          f32[B] in [-1, 1]: the cosine of image code and sentence embedding, which DAMSM trains to
          be high for an image and its caption.

        Raises:
          InputError: an argument is not allowed, or the model has no image encoder.
        """
        _check_images(images)
        if isinstance(captions, str):
            captions = [captions] * len(images)
        texts = check_captions(captions)
        if len(images) != len(texts):
            raise InputError(
                f"images: {len(images)}, but {len(texts)} captions; give one caption for each "
                "image, or a single one for all"
            )
        size = self.config.data.image_size
        return self._score(np.stack([_square(image, size) for image in images]), texts)

    def generate(self, captions: Sequence[str], noise: np.ndarray) -> np.ndarray:
        """Images u8[B, S, S, 3] of B captions and noise f32[B, N], standard normal.

        Raises:
          TokenizerError: a caption has no word.
        """
        return self.sampler.images(self.variables, self._sentences(captions), noise)

    def generate_with_masks(
        self, captions: Sequence[str], noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Like `generate`, with the fusion masks f32[B, S, S, 1] in (0, 1), coarse to fine."""
        return self.sampler.images_and_masks(self.variables, self._sentences(captions), noise)

    def draw_noise(
        self,
        captions: Sequence[str],
        num: int,
        seed: int,
        truncation: float = 1.0,
        best_of: int = 1,
    ) -> np.ndarray:
        """Noise f32[len(captions), num, N] of `paint`, by its arguments."""
        _check("num", num, lambda value: _is_int(value) and 1 <= value <= _MOST, f"1 to {_MOST:,}")
        _check("seed", seed, _is_int, "an integer")
        check_seed(seed, "seed")
        _check("truncation", truncation, lambda value: 0 <= value <= 1, "in [0, 1]")
        most = _MOST // num
        _check(
            "best_of", best_of, lambda value: _is_int(value) and 1 <= value <= most, f"1 to {most}"
        )
        rows = sample_noise(int(seed), num * best_of, self.config.generator.noise_dim)
        # The first `num` rows are the noise without ranking.
        candidates = truncate_noise(rows, truncation).reshape(best_of, num, -1)
        if best_of == 1:
            return np.repeat(candidates, len(captions), 0)
        return np.stack([self._best_noise(caption, candidates) for caption in captions])

    def _best_noise(self, caption: str, candidates: np.ndarray) -> np.ndarray:
        """Of [best_of, num, N], the noise [num, N] of the images closest to the caption."""
        best_of, num, _ = candidates.shape
        captions = [caption] * (best_of * num)
        scores = self._score(self.generate(captions, np.concatenate(candidates)), captions)
        return candidates[scores.reshape(best_of, num).argmax(0), np.arange(num)]

    def _score(self, pixels: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        if self.image_encoder is None:
            raise InputError(
                "this model has no image encoder, which score and best_of need; load the work "
                "folder that it was exported from, or convert it with --image_encoder"
            )
        codes = self.sampler.codes(self.image_encoder, pixels)
        sentences = self._sentences(captions)
        norms = np.linalg.norm(codes, axis=-1) * np.linalg.norm(sentences, axis=-1)
        return (codes * sentences).sum(-1) / np.maximum(norms, 1e-8)

    def _sentences(self, captions: Sequence[str]) -> np.ndarray:
        """Sentence embeddings f32[B, E]; captions that occur repeatedly are encoded once."""
        rows: dict[str, int] = {}
        for caption in captions:
            rows.setdefault(caption, len(rows))
        encoded = [self.tokenizer.encode(caption, self.config.data.max_words) for caption in rows]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        sentences = self.sampler.sentences(self.variables, tokens, mask)
        return sentences[[rows[caption] for caption in captions]]


def check_captions(captions: Sequence[str]) -> list[str]:
    """The captions as a list; raises InputError if they are not one or more sentences."""
    _check(
        "captions",
        captions,
        lambda texts: len(texts) > 0 and all(isinstance(t, str) and t.strip() for t in texts),
        "a sentence or a list of sentences",
    )
    return list(captions)


def _check_images(images: Any) -> None:
    """Raises InputError for a single image, or what else is no list of images."""
    is_array = isinstance(images, np.ndarray)
    is_list = isinstance(images, Sequence) and not isinstance(images, str)
    if not (images.ndim == 4 if is_array else is_list):
        shown = f"{images.dtype}{list(images.shape)}" if is_array else repr(images)
        raise InputError(
            f"images={shown}: must be a list of Pillow images or uint8 arrays [H, W, 3], also for "
            "a single image"
        )


def _check(name: str, value: Any, is_allowed: Callable[[Any], bool], allowed: str) -> None:
    try:
        fits = is_allowed(value)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(f"{name}={value!r}: must be {allowed}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _square(image: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """The centre square of an image, u8[size, size, 3]."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise InputError(f"images: {image.dtype}{list(image.shape)}: must be uint8 [H, W, 3]")
        image = Image.fromarray(image)
    _check("images", image, lambda value: isinstance(value, Image.Image), "Pillow images or arrays")
    try:
        image = resize_smaller_edge(to_upright_rgb(image), size)
    except (OSError, ValueError, ArithmeticError) as error:  # Closed, truncated or empty.
        raise InputError(f"images: {image!r}: cannot be used ({error})") from error
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
