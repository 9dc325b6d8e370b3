"""The networks of a run, their optimizers, and the one state that training carries on."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.models.vocabulary import Vocabulary
from ssagan_jax.steps.networks import Networks, build_networks, initial_variables
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """All that training carries from one step to the next, without a device axis.

    Attributes:
      step: i32, steps of both stages taken.
      key: the run's random key; each step folds its number in.
      encoders: parameters {"text", "image"} of both encoders.
      trunk: the image encoder's variables that no gradient changes ({} for the small CNN).
      encoders_opt: the optimizer's state over `encoders`.
      generator: the generator's parameters.
      batch_stats: the generator's running statistics.
      generator_opt: the optimizer's state over `generator`.
      average: running averages {"params", "batch_stats"} of the generator, None without them.
      discriminator: the discriminator's parameters.
      discriminator_opt: the optimizer's state over `discriminator`.
    """

    step: jax.Array
    key: jax.Array
    encoders: PyTree
    trunk: PyTree
    encoders_opt: PyTree
    generator: PyTree
    batch_stats: PyTree
    generator_opt: PyTree
    average: PyTree | None
    discriminator: PyTree
    discriminator_opt: PyTree


def state_from_variables(
    config: ConfigDict, variables: dict[str, PyTree], optimizers: Optimizers
) -> TrainState:
    """The state at step 0 with these variables of the four networks, and fresh optimizers.

    Encoders are set up for stage 1; `begin_gan_stage` sets them up for stage 2.
    """
    text, looker = variables["text_encoder"], variables["image_encoder"]
    painter, judge = variables["generator"], variables["discriminator"]
    encoders = {"text": text["params"], "image": looker["params"]}
    average = {"params": painter["params"], "batch_stats": painter["batch_stats"]}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(jax.random.split(jax.random.key(config.seed), 5)[4]),
        encoders=encoders,
        trunk=looker.get("trunk", {}),
        encoders_opt=optimizers.damsm.init(encoders),
        generator=painter["params"],
        batch_stats=painter["batch_stats"],
        generator_opt=optimizers.generator.init(painter["params"]),
        # A copy: the step donates the state, and a buffer cannot be donated twice.
        average=jax.tree.map(jnp.copy, average) if config.train.ema_decay else None,
        discriminator=judge["params"],
        discriminator_opt=optimizers.discriminator.init(judge["params"]),
    )


def network_variables(state: TrainState) -> dict[str, PyTree]:
    """The collections of each network by its name, as `new_state` takes them."""
    return {
        "text_encoder": {"params": state.encoders["text"]},
        "image_encoder": {"params": state.encoders["image"], "trunk": state.trunk},
        "generator": {"params": state.generator, "batch_stats": state.batch_stats},
        "discriminator": {"params": state.discriminator},
    }


def create_state(config: ConfigDict, networks: Networks, optimizers: Optimizers) -> TrainState:
    """The state of a new run with initial weights from `config.seed`."""
    return state_from_variables(config, initial_variables(config, networks), optimizers)


def initial_state(config: ConfigDict, vocabulary: Vocabulary) -> TrainState:
    """The state of a new run; under `jax.eval_shape`, its shapes and types alone."""
    networks = build_networks(config, vocabulary)
    # Only the form of the optimizers' states is asked for, and no number of steps changes it.
    return create_state(config, networks, build_optimizers(config, damsm_steps=1))


def begin_gan_stage(state: TrainState, optimizers: Optimizers) -> TrainState:
    """The state at the start of stage 2: the encoders' optimizer starts afresh."""
    return state.replace(encoders_opt=optimizers.encoders.init(state.encoders))


def sampling_variables(state: TrainState) -> dict[str, PyTree]:
    """The generator's variables to paint with: the averaged ones where the run keeps them."""
    if state.average is not None:
        return state.average
    return {"params": state.generator, "batch_stats": state.batch_stats}


def abstract_state(config: ConfigDict, tokenizer: Tokenizer) -> TrainState:
    """Shapes and types of a run's state, without any computation."""
    return jax.eval_shape(lambda: initial_state(config, tokenizer.vocabulary))
