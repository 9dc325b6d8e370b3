"""The training state, and how it is created."""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.models.vocabulary import Vocabulary
from ssagan_jax.steps.ema import has_ema
from ssagan_jax.steps.networks import (
    KEY_IMPL,
    Networks,
    build_networks,
    initial_variables,
    seed_key,
)
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers

PyTree = Any
# One device's rows: image u8[b, S, S, 3], tokens i32[b, T], mask bool[b, T] and class_id i32[b];
# with several captions of each image also all_tokens i32[b, K, T] and all_mask bool[b, K, T].
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class StepContext:
    """What stays the same from step to step: the first argument of both steps and their parts.

    Attributes:
      with_magp: False in those steps of stage 2 that `config.loss.magp_every` leaves without MA-GP.
    """

    config: ConfigDict
    networks: Networks
    optimizers: Optimizers | None
    with_magp: bool = True

    @property
    def axis_name(self) -> str | None:
        """Mapped axis over which the global batch is split, or None."""
        return self.networks.axis_name


@flax.struct.dataclass
class TrainState:
    """Everything that training carries from one step to the next, without a device axis.

    Attributes:
      step: i32, steps taken in both stages.
      key: data of the run's random key; see `step_keys`.
      encoders: parameters {"text", "image"} of both encoders.
      trunk: the image encoder's variables without gradients ({} for the small CNN).
      encoders_opt: optimizer state of `encoders`.
      generator: the generator's parameters.
      batch_stats: the generator's running statistics.
      generator_opt: optimizer state of `generator`.
      ema: moving averages {"params", "batch_stats"} of the generator, None if the run has none.
      discriminator: the discriminator's parameters.
      discriminator_opt: optimizer state of `discriminator`.
      sentence_queue: f32[Q, E], sentences of the last steps of stage 2, newest first, for
        "nearest" and the contrastive loss; zeros where there were none yet. None if Q is 0.
      average_logits: f32[2], moving averages of the mean logits of real and of generated images,
        zeros at first. None without `config.loss.lecam_weight`.
    """

    step: jax.Array
    key: jax.Array
    encoders: PyTree
    trunk: PyTree
    encoders_opt: PyTree
    generator: PyTree
    batch_stats: PyTree
    generator_opt: PyTree
    ema: PyTree | None
    discriminator: PyTree
    discriminator_opt: PyTree
    sentence_queue: jax.Array | None = None
    average_logits: jax.Array | None = None


def step_keys(state: TrainState) -> tuple[jax.Array, jax.Array]:
    """Keys of dropout and noise in the next step: the run's key with the step folded in."""
    dropout_key, noise_key = jax.random.split(_step_key(state))
    return dropout_key, noise_key


def augment_keys(state: TrainState) -> tuple[jax.Array, jax.Array]:
    """Keys of the transforms of real and of generated images in the next step; see `step_keys`."""
    # Splitting in two, as `step_keys` does, takes 0 and 1.
    real_key, generated_key = jax.random.split(jax.random.fold_in(_step_key(state), 2))
    return real_key, generated_key


def _step_key(state: TrainState) -> jax.Array:
    return jax.random.fold_in(jax.random.wrap_key_data(state.key, impl=KEY_IMPL), state.step)


def state_from_variables(
    config: ConfigDict, variables: dict[str, PyTree], optimizers: Optimizers
) -> TrainState:
    """The state at step 0 of stage 1 with these variables, as `network_variables` returns them."""
    text_encoder, image_encoder = variables["text_encoder"], variables["image_encoder"]
    generator, discriminator = variables["generator"], variables["discriminator"]
    encoders = {"text": text_encoder["params"], "image": image_encoder["params"]}
    ema = {"params": generator["params"], "batch_stats": generator["batch_stats"]}
    queued = config.loss.sentence_queue
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(jax.random.split(seed_key(config.seed), 5)[4]),
        encoders=encoders,
        trunk=image_encoder.get("trunk", {}),
        encoders_opt=optimizers.damsm.init(encoders),
        generator=generator["params"],
        batch_stats=generator["batch_stats"],
        generator_opt=optimizers.generator.init(generator["params"]),
        # A copy: the step donates the state, and a buffer cannot be donated twice.
        ema=jax.tree.map(jnp.copy, ema) if has_ema(config) else None,
        discriminator=discriminator["params"],
        discriminator_opt=optimizers.discriminator.init(discriminator["params"]),
        sentence_queue=jnp.zeros((queued, config.text_encoder.embedding_dim)) if queued else None,
        average_logits=jnp.zeros(2) if config.loss.lecam_weight else None,
    )


def network_variables(state: TrainState) -> dict[str, PyTree]:
    """The variable collections of each network, by the network's name."""
    return {
        "text_encoder": {"params": state.encoders["text"]},
        "image_encoder": {"params": state.encoders["image"], "trunk": state.trunk},
        "generator": {"params": state.generator, "batch_stats": state.batch_stats},
        "discriminator": {"params": state.discriminator},
    }


def sampling_variables(state: TrainState) -> dict[str, PyTree]:
    """The generator's variables to sample with: the EMA if the run has one."""
    if state.ema is not None:
        return state.ema
    return {"params": state.generator, "batch_stats": state.batch_stats}


def initial_state(config: ConfigDict, vocabulary: Vocabulary) -> TrainState:
    """The state of a new run with initial weights drawn from `config.seed`."""
    variables = initial_variables(config, build_networks(config, vocabulary))
    # The number of steps does not change the tree of the optimizers' states.
    return state_from_variables(config, variables, build_optimizers(config, damsm_steps=1))


def abstract_state(config: ConfigDict, tokenizer: Tokenizer) -> TrainState:
    """Shapes and types of a run's state, as `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(lambda: initial_state(config, tokenizer.vocabulary))


def begin_gan_stage(state: TrainState, optimizers: Optimizers) -> TrainState:
    """The state at the start of stage 2: the encoders' optimizer starts anew."""
    return state.replace(encoders_opt=optimizers.encoders.init(state.encoders))
