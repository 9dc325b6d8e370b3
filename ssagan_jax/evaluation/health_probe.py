"""Measures signs of overfitting and of collapse on fixed images, while a run trains."""

from typing import Any

import jax
import numpy as np

from ssagan_jax.data.pipeline import Batch, evaluation_batches
from ssagan_jax.evaluation.eval_context import EvalContext
from ssagan_jax.metrics.training_health import overfitting_signs, relative_variety, thumbnails
from ssagan_jax.steps.networks import Networks, normalize_images
from ssagan_jax.steps.pmap import BATCH_AXIS, BatchFn, pmap_batched, replicate
from ssagan_jax.steps.state import TrainState

PREFIX = "health/"  # of the names of the measured values
_PAIRS = 64  # of each split
_CAPTIONS, _NOISES = 16, 4  # of the generated images


def build_logit_fn(networks: Networks, batch_size: int) -> BatchFn:
    """Builds a function that judges images with captions on all devices.

    It takes the parameters {"text", "discriminator"} and rows of image u8[B, S, S, 3], tokens
    i32[B, T] and mask bool[B, T], and returns logit f32[B].
    """

    def judge(params: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        text, variables = ({"params": params[name]} for name in ("text", "discriminator"))
        _, sentence = networks.text_encoder.apply(text, rows["tokens"], rows["mask"], False)
        images = normalize_images(rows["image"])
        # The minibatch standard deviation is that of all devices, as in training.
        discriminator = networks.discriminator.clone(axis_name=BATCH_AXIS)
        return {"logit": discriminator.apply(variables, images, sentence)[0]}

    return pmap_batched(judge, batch_size)


class HealthProbe:
    """Judges training, held-out and generated images, and compares the generated ones.

    The images are the same in all measurements: 64 pairs of each split, chosen by the run's seed,
    or all of a smaller split; and images of 16 of the training captions with 4 noises, which all
    captions share, from the averaged generator weights if there are any.
    """

    def __init__(self, context: EvalContext) -> None:
        self._context = context
        self._batch_size = context.config.eval.batch_size
        self._logits = build_logit_fn(context.networks, self._batch_size)
        self._real: dict[str, Batch] | None = None  # Read at the first measurement.

    def __call__(self, state: TrainState) -> dict[str, float]:
        """The values of `overfitting_signs` and `relative_variety`; all processes take part."""
        self._real = self._real or {split: self._pairs(split) for split in ("train", "validation")}
        state, training = replicate(state), self._real["train"]
        pairs = len(training["image"])
        captions = min(_CAPTIONS, pairs)
        # Spread over the pairs, which are in the order of their names; in a batch they differ.
        rows = np.tile(np.arange(captions) * pairs // captions, _NOISES)
        rows = {name: values[rows] for name, values in training.items()}
        rows["number"] = np.repeat(np.arange(_NOISES, dtype=np.int32), captions)
        functions = self._context.functions(state, self._context.config.seed)
        generated = rows | functions.generate(rows)
        params = {"text": state.encoders["text"], "discriminator": state.discriminator}
        logits = [
            self._logits(params, {name: part[name] for name in training})["logit"]
            for part in (*self._real.values(), generated)
        ]
        images = thumbnails(generated["image"]).reshape(_NOISES, captions, -1).swapaxes(0, 1)
        found = overfitting_signs(*logits)
        found |= relative_variety(images, thumbnails(training["image"]))
        return {f"{PREFIX}{name}": value for name, value in found.items()}

    def _pairs(self, split: str) -> Batch:
        """Images, tokens and masks of the fixed pairs of a split."""
        config, dataset = self._context.config, self._context.datasets[split]
        rng = np.random.default_rng(config.seed)
        chosen = rng.permutation(len(dataset))[:_PAIRS].tolist()
        ((batch, _),) = evaluation_batches(
            [dataset[index] for index in chosen],
            self._context.tokenizer,
            image_size=config.data.image_size,
            max_words=config.data.max_words,
            batch_size=len(chosen),
        )
        return {name: batch[name] for name in ("image", "tokens", "mask")}
