"""The encoders' update: DAMSM on real images and their captions (eq. 2)."""

from typing import Any, NamedTuple

import jax
import optax

from ssagan_jax.models.collectives import mean_across_devices
from ssagan_jax.steps.gradient_accumulation import (
    LossAndGradient,
    MicrobatchOutputs,
    accumulate_microbatches,
)
from ssagan_jax.steps.losses import ImageFeatures, TextFeatures, cosine, damsm_losses
from ssagan_jax.steps.optimizers import apply_optimizer, ravel
from ssagan_jax.steps.skip_nonfinite import replace_if_finite
from ssagan_jax.steps.state import Batch, Metrics, PyTree, StepContext, TrainState


class EncodedPairs(NamedTuple):
    """What the encoders say of images and their captions.

    Attributes:
      text: of the captions.
      similarities: f32[b], cosine similarities of the images' codes with their sentences.
    """

    text: TextFeatures
    similarities: jax.Array


def encode_images(
    context: StepContext, params: PyTree, trunk: PyTree, images: jax.Array, train: bool
) -> tuple[ImageFeatures, PyTree]:
    """Features of images f32[b, S, S, 3] in [-1, 1], and the trunk.

    In training with `config.image_encoder.statistics` "batch" the trunk normalizes by the global
    batch, and its running statistics are updated.
    """
    image_encoder, variables = context.networks.image_encoder, {"params": params, "trunk": trunk}
    if not train or not trunk or context.config.image_encoder.statistics == "running":
        return ImageFeatures(*image_encoder.apply(variables, images)), trunk
    features, updates = image_encoder.apply(variables, images, mutable=["trunk"])
    return ImageFeatures(*features), updates["trunk"]


def damsm_loss(
    context: StepContext, images: ImageFeatures, text: TextFeatures, batch: Batch
) -> tuple[jax.Array, Metrics]:
    """The DAMSM loss f32[] of the global batch (eq. 2), and its terms."""
    loss = context.config.loss
    gammas = (loss.gamma1, loss.gamma2, loss.gamma3)
    mask, class_ids = batch["mask"], batch["class_id"]
    terms = damsm_losses(images, text, mask, class_ids, gammas, context.axis_name, loss.damsm_words)
    return sum(terms.values()), terms


def _encoder_loss(
    encoders: PyTree,
    context: StepContext,
    trunk: PyTree,
    batch: Batch,
    dropout_key: jax.Array,
    train: bool,
) -> tuple[jax.Array, tuple[EncodedPairs, PyTree, Metrics]]:
    """DAMSM as a function of both encoders' parameters; outputs, trunk and metrics."""
    variables, rngs = {"params": encoders["text"]}, {"dropout": dropout_key}
    tokens, mask = batch["tokens"], batch["mask"]
    text = TextFeatures(
        *context.networks.text_encoder.apply(variables, tokens, mask, train, rngs=rngs)
    )
    images, trunk = encode_images(context, encoders["image"], trunk, batch["image"], train)
    loss, terms = damsm_loss(context, images, text, batch)
    encoded = EncodedPairs(text, cosine(images.codes, text.sentence))
    return loss, (encoded, trunk, {f"damsm/{name}": term for name, term in terms.items()})


def encode_batch(
    context: StepContext, state: TrainState, batch: Batch, dropout_key: jax.Array, train: bool
) -> MicrobatchOutputs:
    """Runs both encoders on a batch of real pairs, whose images are in [-1, 1].

    Returns:
      The trunk as `carry`; `LossAndGradient` as `averaged`, without a gradient unless `train`; and
      `EncodedPairs` as `concatenated`.
    """
    microbatches = context.config.train.grad_accumulation_steps

    def encode(trunk: PyTree, batch: Batch, index: Any) -> MicrobatchOutputs:
        key = dropout_key if microbatches == 1 else jax.random.fold_in(dropout_key, index)
        arguments = (state.encoders, context, trunk, batch, key, train)
        gradient = None
        if train:
            (loss, aux), gradient = jax.value_and_grad(_encoder_loss, has_aux=True)(*arguments)
            gradient = ravel(gradient)
        else:
            loss, aux = _encoder_loss(*arguments)
        encoded, trunk, metrics = aux
        return MicrobatchOutputs(trunk, LossAndGradient(loss, gradient, metrics), encoded)

    return accumulate_microbatches(encode, microbatches, batch, state.trunk)


def update_encoders(
    context: StepContext,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    dropout_key: jax.Array,
) -> tuple[TrainState, EncodedPairs, Metrics]:
    """One update of both encoders with their optimizer of a stage, skipped if it is not finite.

    Returns the state after it, the encoders' outputs before it, and metrics.
    """
    trunk, found, encoded = encode_batch(context, state, batch, dropout_key, train=True)
    loss, gradient = mean_across_devices((found.loss, found.gradient), context.axis_name)
    params, opt_state, update = apply_optimizer(
        optimizer, gradient, state.encoders_opt, state.encoders
    )
    updated = {"encoders": params, "encoders_opt": opt_state, "trunk": trunk}
    state, nonfinite = replace_if_finite(state, updated, loss, (gradient, update, trunk))
    return state, encoded, found.metrics | {"nonfinite/encoders": nonfinite}
