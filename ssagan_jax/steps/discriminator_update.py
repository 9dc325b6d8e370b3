"""The discriminator's update: hinge loss and MA-GP (eq. 6), a contrastive loss, and LeCam."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssagan_jax.models.collectives import (
    all_gather_rows,
    axis_size,
    local_shard,
    mean_across_devices,
)
from ssagan_jax.steps import losses
from ssagan_jax.steps.gradient_accumulation import (
    LossAndGradient,
    MicrobatchOutputs,
    accumulate_microbatches,
)
from ssagan_jax.steps.optimizers import apply_optimizer, global_norm, ravel
from ssagan_jax.steps.skip_nonfinite import replace_if_finite
from ssagan_jax.steps.state import Metrics, PyTree, StepContext, TrainState

# By `config.discriminator.updates`: the terms of `DiscriminatorLosses` in each update.
_TERMS = {1: [("adversarial", "weighted_magp")], 2: [("adversarial",), ("weighted_magp",)]}
# Of the moving averages that LeCam compares with.
_LOGITS_DECAY = 0.99


class DiscriminatorInputs(NamedTuple):
    """One device's rows of what the discriminator is trained on.

    Attributes:
      images: real, f32[b, S, S, 3] in [-1, 1].
      generated: f32[b, S, S, 3] in (-1, 1).
      own: f32[b, K, E], sentences of the real images. The first ones are those of eq. 6; the
        contrastive loss sees them all.
      generated_from: f32[b, E], sentences of the generated images.
      mismatched: f32[b * k, E], the sentences of k other images for each real one, those of the
        first image first.
      weights: f32[b * k], of the mismatched pairs.
    """

    images: jax.Array
    generated: jax.Array
    own: jax.Array
    generated_from: jax.Array
    mismatched: jax.Array
    weights: jax.Array


class DiscriminatorLosses(NamedTuple):
    """The two terms of eq. 6, f32[], MA-GP times its weight; and metrics.

    The contrastive loss and LeCam, if they have a weight, are part of the adversarial term.
    """

    adversarial: jax.Array
    weighted_magp: jax.Array
    metrics: Metrics


def known_sentences(context: StepContext, state: TrainState, own: jax.Array) -> jax.Array:
    """Sentences f32[K * B + Q, E] of the global batch and of the queue.

    Those that images are trained on, the first of this device's f32[b, K, E], come first.
    """
    gathered = all_gather_rows(own, context.axis_name)
    sentences = gathered.swapaxes(0, 1).reshape(-1, own.shape[-1])
    if state.sentence_queue is None:
        return sentences
    return jnp.concatenate([sentences, state.sentence_queue])


def choose_mismatched(
    context: StepContext, own: jax.Array, sentences: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sentences of others in the global batch for each real image; `mismatched` and `weights`.

    There are `config.loss.num_mismatched` of them, or all if there are fewer: those of the next
    images. With `config.loss.mismatched` "roll" the last image is followed by the first one; with
    "shift", as in the reference, such pairs have weight 0. With "nearest" they are instead those of
    the highest cosine similarity among all `known_sentences`, which differ by less than a color.
    Copies of the image's `own`, f32[b, K, E], have weight 0. They are only recognised with
    `config.train.encoders` "frozen": dropout embeds each copy differently.
    """
    axis_name, config, sentence = context.axis_name, context.config.loss, own[:, 0]
    size = len(sentence) * axis_size(axis_name)
    number = min(config.num_mismatched, size - 1)
    if config.mismatched == "nearest":
        different = losses.different_sentences(own, sentences)
        similarity = losses.sentence_similarity(sentence, sentences)
        similarity = jnp.where(different, similarity, -2)
        similarity, nearest = jax.lax.top_k(similarity, number)
        weights = (similarity > -2).astype(sentence.dtype)
        return sentences[nearest.reshape(-1)], weights.reshape(-1)
    shifted, weights = [], []
    for offset in range(1, number + 1):
        shifted.append(jnp.roll(sentences[:size], -offset, 0))
        weights.append(jnp.ones(size, sentence.dtype))
        if config.mismatched == "shift":
            weights[-1] = weights[-1].at[-offset:].set(0) * size / (size - offset)
    # Row i of each of them, then row i + 1 of each.
    shifted, weights = (jnp.stack(rows, 1) for rows in (shifted, weights))
    flat = shifted.reshape(size * number, -1), weights.reshape(-1)
    return tuple(local_shard(rows, axis_name) for rows in flat)


def discriminator_loss(
    params: PyTree,
    context: StepContext,
    inputs: DiscriminatorInputs,
    sentences: jax.Array,
    average_logits: jax.Array | None = None,
) -> DiscriminatorLosses:
    """Eq. 6 from one pass over the real images, which serves all terms but the generated one's.

    The loss is averaged over an image's mismatched sentences. The contrastive loss compares the
    real images with the `known_sentences`, LeCam all logits with the `average_logits`.
    """
    discriminator, variables = context.networks.discriminator, {"params": params}
    config, sentence = context.config.loss, inputs.own[:, 0]

    def summed_logits(images: jax.Array, sentence: jax.Array) -> tuple[jax.Array, PyTree]:
        logits, features = discriminator.apply(variables, images, sentence)
        return logits.sum(), (logits, features)

    metrics, magp = {}, 0.0
    if context.with_magp:
        gradients, (matched, features) = jax.grad(summed_logits, (0, 1), has_aux=True)(
            inputs.images, sentence
        )
        magp = losses.matching_aware_penalty(*gradients, config.magp_power, config.magp_norm)
        metrics["discriminator/magp"] = magp
    else:
        matched, features = discriminator.apply(variables, inputs.images, sentence)
    mismatched = discriminator.apply(variables, features, inputs.mismatched, method="logits")
    generated, _ = discriminator.apply(variables, inputs.generated, inputs.generated_from)
    real, fake = losses.hinge_real(matched), losses.hinge_fake(generated)
    wrong = losses.hinge_fake(mismatched, inputs.weights)
    adversarial = real + (fake + wrong) / 2
    metrics |= {
        "discriminator/adversarial": adversarial,
        "discriminator/real": matched.mean(),
        "discriminator/mismatched": (inputs.weights * mismatched).mean(),
        "discriminator/generated": generated.mean(),
    }
    if config.contrastive_weight:
        own, others = discriminator.apply(
            variables, features, inputs.own, sentences, method="cosines"
        )
        different = losses.different_sentences(inputs.own, sentences)
        contrastive = losses.image_to_sentence_loss(
            own, others, different, config.contrastive_gamma
        )
        adversarial += config.contrastive_weight * contrastive
        metrics["discriminator/contrastive"] = contrastive
    if config.lecam_weight:
        lecam = losses.lecam_penalty(matched, generated, average_logits)
        adversarial += config.lecam_weight * lecam
        metrics["discriminator/lecam"] = lecam
    return DiscriminatorLosses(adversarial, config.magp_weight * config.magp_every * magp, metrics)


def _loss_and_gradient(
    context: StepContext,
    params: PyTree,
    inputs: DiscriminatorInputs,
    sentences: jax.Array,
    average_logits: jax.Array | None,
    terms: tuple[str, ...],
) -> LossAndGradient:
    """The sum of some terms of `DiscriminatorLosses`."""

    def loss(params: PyTree, inputs: DiscriminatorInputs) -> tuple[jax.Array, Metrics]:
        found = discriminator_loss(params, context, inputs, sentences, average_logits)
        return sum(getattr(found, term) for term in terms), found.metrics

    def evaluate(_: None, inputs: DiscriminatorInputs, __: Any) -> MicrobatchOutputs:
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params, inputs)
        return MicrobatchOutputs(averaged=LossAndGradient(value, ravel(gradient), metrics))

    microbatches = context.config.train.grad_accumulation_steps
    return accumulate_microbatches(evaluate, microbatches, inputs).averaged


def update_discriminator(
    context: StepContext,
    state: TrainState,
    images: jax.Array,
    generated: jax.Array,
    own: jax.Array,
    generated_from: jax.Array,
) -> tuple[TrainState, Metrics]:
    """One update with the whole of eq. 6, or, as in the reference, one for each of its two terms.

    Arguments are those of `DiscriminatorInputs`.
    Without MA-GP, as the context says, it is one update by the other terms.
    If either update is not finite, both are skipped.
    """
    queue, sentences = state.sentence_queue, known_sentences(context, state, own)
    averages = state.average_logits
    mismatched = choose_mismatched(context, own, sentences)
    inputs = DiscriminatorInputs(images, generated, own, generated_from, *mismatched)
    optimizer = context.optimizers.discriminator
    params, opt_state = state.discriminator, state.discriminator_opt
    total, checked, metrics = 0.0, [], {}
    updates = _TERMS[context.config.discriminator.updates]
    for terms in updates if context.with_magp else [("adversarial",)]:
        found = _loss_and_gradient(context, params, inputs, sentences, averages, terms)
        loss, gradient = mean_across_devices((found.loss, found.gradient), context.axis_name)
        params, opt_state, update = apply_optimizer(optimizer, gradient, opt_state, params)
        total += loss
        checked += [gradient, update]
        norm = {"gradient_norm/discriminator": global_norm(gradient)}
        # Of two updates the first minimizes the adversarial terms, the second MA-GP.
        metrics = found.metrics | norm | metrics
    if context.with_magp:
        metrics["discriminator/magp"] = found.metrics["discriminator/magp"]
    if averages is not None:
        logits = metrics["discriminator/real"], metrics["discriminator/generated"]
        logits = mean_across_devices(jnp.stack(logits), context.axis_name)
        averages = _LOGITS_DECAY * averages + (1 - _LOGITS_DECAY) * logits
    queue = None if queue is None else sentences[: len(queue)]
    updated = {
        "discriminator": params,
        "discriminator_opt": opt_state,
        "sentence_queue": queue,
        "average_logits": averages,
    }
    state, nonfinite = replace_if_finite(state, updated, total, (checked, queue, averages))
    return state, metrics | {"nonfinite/discriminator": nonfinite}
