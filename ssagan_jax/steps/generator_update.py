"""The generator's update: adversarial loss (eq. 4) and DAMSM of the generated images (eq. 5)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssagan_jax.models.collectives import axis_size, local_shard, mean_across_devices
from ssagan_jax.models.diff_augment import Transforms, apply_transforms
from ssagan_jax.steps.ema import ema_decay, update_ema
from ssagan_jax.steps.encoder_update import EncodedPairs, damsm_loss, encode_images
from ssagan_jax.steps.gradient_accumulation import (
    LossAndGradient,
    MicrobatchOutputs,
    accumulate_microbatches,
)
from ssagan_jax.steps.losses import damsm_weight, pair_diversity
from ssagan_jax.steps.optimizers import apply_optimizer, global_norm, ravel
from ssagan_jax.steps.skip_nonfinite import replace_if_finite
from ssagan_jax.steps.state import Batch, Metrics, PyTree, StepContext, TrainState


class GeneratedBatch(NamedTuple):
    """The generator's forward pass.

    Attributes:
      images: f32[b, S, S, 3] in (-1, 1).
      kl: f32[], see `ConditioningAugmentation`; 0 without it.
      pullback: maps the gradient in images and kl to that in the generator's parameters. It and kl
        are None with gradient accumulation, where each microbatch is generated again for them.
      batch_stats: running statistics after the pass.
    """

    images: jax.Array
    kl: jax.Array | None
    pullback: Callable[[tuple[jax.Array, jax.Array]], tuple[PyTree]] | None
    batch_stats: PyTree


def sample_noise(context: StepContext, key: jax.Array, rows: int) -> jax.Array:
    """This device's rows f32[rows, N] of the standard normal noise of the global batch."""
    shape = (rows * axis_size(context.axis_name), context.config.generator.noise_dim)
    return local_shard(jax.random.normal(key, shape), context.axis_name)


def _apply_generator(
    context: StepContext, params: PyTree, batch_stats: PyTree, noise: jax.Array, sentence: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], PyTree]:
    """Images f32[b, S, S, 3] in (-1, 1) and `GeneratedBatch.kl`; the updated running statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    (images, _), updates = context.networks.generator.apply(
        variables, noise, sentence, True, mutable=["batch_stats", "losses"]
    )
    kl = jnp.float32(sum(jax.tree.leaves(updates.get("losses"))))
    return (images, kl), updates["batch_stats"]


def _generate_with_pullback(
    context: StepContext, state: TrainState, noise: jax.Array, sentence: jax.Array
) -> GeneratedBatch:
    def generate(params: PyTree) -> tuple[tuple[jax.Array, jax.Array], PyTree]:
        return _apply_generator(context, params, state.batch_stats, noise, sentence)

    outputs, pullback, batch_stats = jax.vjp(generate, state.generator, has_aux=True)
    return GeneratedBatch(*outputs, pullback, batch_stats)


def generate_batch(
    context: StepContext, state: TrainState, noise: jax.Array, sentence: jax.Array
) -> GeneratedBatch:
    """Generates images from noise f32[b, N] and sentence embeddings f32[b, E]."""
    microbatches = context.config.train.grad_accumulation_steps
    if microbatches == 1:
        return _generate_with_pullback(context, state, noise, sentence)

    def generate(batch_stats: PyTree, inputs: PyTree, _: Any) -> MicrobatchOutputs:
        (images, _), batch_stats = _apply_generator(context, state.generator, batch_stats, *inputs)
        return MicrobatchOutputs(carry=batch_stats, concatenated=images)

    outputs = accumulate_microbatches(generate, microbatches, (noise, sentence), state.batch_stats)
    return GeneratedBatch(outputs.concatenated, None, None, outputs.carry)


def generator_loss(
    generated: jax.Array,
    context: StepContext,
    state: TrainState,
    trunk: PyTree,
    batch: Batch,
    encoded: EncodedPairs,
    transforms: Transforms | None = None,
) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
    """Eq. 4 and 5 as a function of the generated images f32[b, S, S, 3]; trunk and metrics.

    `losses.pair_diversity` times `config.loss.diversity_weight` is subtracted. The weight of DAMSM
    follows `config.loss.damsm_decay_steps`, counted in updates of the generator; skipped ones do
    not count. The discriminator sees the images through `transforms`.
    """
    config, variables = context.config, {"params": state.discriminator}
    seen = apply_transforms(generated, transforms)
    logits, _ = context.networks.discriminator.apply(variables, seen, encoded.text.sentence)
    adversarial = -logits.mean()
    train = config.train.encoders == "trained"
    features, trunk = encode_images(context, state.encoders["image"], trunk, generated, train)
    damsm, _ = damsm_loss(context, features, encoded.text, batch)
    metrics = {"generator/adversarial": adversarial, "generator/damsm": damsm}
    loss, updates = config.loss, state.generator_opt[0].count
    weight = damsm_weight(
        loss.damsm_weight_start, loss.damsm_weight, loss.damsm_decay_steps, updates
    )
    total = adversarial + weight * damsm
    if loss.diversity_weight:
        metrics["generator/diversity"] = pair_diversity(features.codes, encoded.similarities)
        total -= loss.diversity_weight * metrics["generator/diversity"]
    return total, (trunk, metrics)


def update_generator(
    context: StepContext,
    state: TrainState,
    batch: Batch,
    encoded: EncodedPairs,
    noise: jax.Array,
    generated: GeneratedBatch,
    transforms: Transforms | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the generator and of its EMA, skipped if it is not finite.

    `generated` was generated from the text of `encoded` and from `noise`, and the discriminator has
    seen its images through `transforms`.
    """

    def evaluate(trunk: PyTree, inputs: PyTree, _: Any) -> MicrobatchOutputs:
        images, batch, encoded, noise, transforms = inputs
        (loss, (trunk, metrics)), image_gradient = jax.value_and_grad(generator_loss, has_aux=True)(
            images, context, state, trunk, batch, encoded, transforms
        )
        again = generated
        if again.pullback is None:
            again = _generate_with_pullback(context, state, noise, encoded.text.sentence)
        kl_weight = context.config.loss.kl_weight
        (gradient,) = again.pullback((image_gradient, jnp.full_like(again.kl, kl_weight)))
        if context.config.generator.conditioning_augmentation:
            loss += kl_weight * again.kl
            metrics["generator/kl"] = again.kl
        return MicrobatchOutputs(trunk, LossAndGradient(loss, ravel(gradient), metrics))

    microbatches = context.config.train.grad_accumulation_steps
    inputs = (generated.images, batch, encoded, noise, transforms)
    outputs = accumulate_microbatches(evaluate, microbatches, inputs, state.trunk)
    found = outputs.averaged
    loss, gradient = mean_across_devices((found.loss, found.gradient), context.axis_name)
    params, opt_state, update = apply_optimizer(
        context.optimizers.generator, gradient, state.generator_opt, state.generator
    )
    ema = state.ema
    if ema is not None:
        variables = {"params": params, "batch_stats": generated.batch_stats}
        ema = update_ema(ema, variables, ema_decay(context.config, state.generator_opt[0].count))
    updated = {
        "generator": params,
        "generator_opt": opt_state,
        "batch_stats": generated.batch_stats,
        "ema": ema,
        "trunk": outputs.carry,
    }
    checked = gradient, update, ravel(generated.batch_stats), outputs.carry
    state, nonfinite = replace_if_finite(state, updated, loss, checked)
    metrics = {"gradient_norm/generator": global_norm(gradient)}
    return state, found.metrics | metrics | {"nonfinite/generator": nonfinite}
