"""Stage 2: one training step of the GAN: encoders, discriminator and generator, in this order.

A network whose loss, gradients or updated values contain NaN or infinity keeps its parameters,
optimizer state, running statistics and EMA. The metrics nonfinite/encoders, nonfinite/discriminator
and nonfinite/generator are 1 in such a step, else 0.

With `config.train.grad_accumulation_steps` above 1 each device processes its rows as microbatches,
and each network is updated once by the mean of their gradients. Noise and mismatched captions are
drawn for the global batch either way. Dropout masks, DAMSM's negatives, batch norm and the
minibatch standard deviation are per microbatch (over all devices); running statistics are updated
once per microbatch, as in PyTorch.

With `config.augment.policy` the discriminator sees every image, real or generated, through one
random transform, the same in all terms of its own loss and in the generator's. MA-GP's gradient is
that in the transformed image. DAMSM sees images as they are.
"""

import jax
import jax.numpy as jnp
from jax import lax

from ssagan_jax.models.collectives import mean_across_devices
from ssagan_jax.models.diff_augment import Transforms, apply_transforms, draw_transforms
from ssagan_jax.steps.discriminator_update import update_discriminator
from ssagan_jax.steps.encoder_update import encode_batch, update_encoders
from ssagan_jax.steps.generator_update import generate_batch, sample_noise, update_generator
from ssagan_jax.steps.networks import normalize_images
from ssagan_jax.steps.state import (
    Batch,
    Metrics,
    StepContext,
    TrainState,
    augment_keys,
    step_keys,
)


def gan_step(context: StepContext, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update of each network, as in the reference; metrics are means over the devices.

    Images are generated once: the discriminator is trained on them, and the generator's own update,
    by the updated discriminator, reuses their pullback.
    """
    batch = batch | {"image": normalize_images(batch["image"])}
    dropout_key, noise_key = step_keys(state)
    if context.config.train.encoders == "trained":
        state, encoded, encoder_metrics = update_encoders(
            context, context.optimizers.encoders, state, batch, dropout_key
        )
    else:
        # Without dropout, as in evaluation.
        outputs = encode_batch(context, state, batch, dropout_key, train=False)
        encoded, encoder_metrics = outputs.concatenated, outputs.averaged.metrics
    encoded = lax.stop_gradient(encoded)
    images, own = batch["image"], _own_sentences(context, state, batch, encoded.text.sentence)
    if context.config.loss.diversity_weight:
        # Two images are generated from every second caption.
        batch, encoded = jax.tree.map(lambda rows: jnp.repeat(rows[::2], 2, 0), (batch, encoded))
    noise = sample_noise(context, noise_key, len(images))
    generated = generate_batch(context, state, noise, encoded.text.sentence)
    real_transforms, transforms = _draw_transforms(context, state, len(images))
    state, discriminator_metrics = update_discriminator(
        context,
        state,
        apply_transforms(images, real_transforms),
        apply_transforms(generated.images, transforms),
        own,
        encoded.text.sentence,
    )
    state, generator_metrics = update_generator(
        context, state, batch, encoded, noise, generated, transforms
    )
    metrics = encoder_metrics | discriminator_metrics | generator_metrics
    return state.replace(step=state.step + 1), mean_across_devices(metrics, context.axis_name)


def _own_sentences(
    context: StepContext, state: TrainState, batch: Batch, sentence: jax.Array
) -> jax.Array:
    """Sentences f32[b, K, E] of all captions that the batch has of its images; `sentence` first.

    The further ones are encoded without dropout.
    """
    own = sentence[:, None]
    if "all_tokens" not in batch:
        return own
    further = (batch[name][:, 1:] for name in ("all_tokens", "all_mask"))
    tokens, mask = (rows.reshape(-1, rows.shape[-1]) for rows in further)
    variables = {"params": state.encoders["text"]}
    _, sentences = context.networks.text_encoder.apply(variables, tokens, mask, False)
    return jnp.concatenate([own, sentences.reshape(len(own), -1, own.shape[-1])], 1)


def _draw_transforms(
    context: StepContext, state: TrainState, rows: int
) -> tuple[Transforms | None, Transforms | None]:
    """Transforms of this device's real and generated images."""
    policy, size = context.config.augment.policy, context.config.data.image_size
    if not policy:
        return None, None
    real, generated = (
        draw_transforms(key, policy, rows, size, context.axis_name) for key in augment_keys(state)
    )
    return real, generated
