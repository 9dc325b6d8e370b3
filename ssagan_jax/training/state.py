"""The networks of a run, their optimizers, and the one state that training carries on."""

import dataclasses
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from ssagan_jax.configuration import ConfigError
from ssagan_jax.models.bert import BertConfig, BertTextEncoder
from ssagan_jax.models.discriminator import Discriminator
from ssagan_jax.models.generator import Generator
from ssagan_jax.models.image_encoder import CnnImageEncoder
from ssagan_jax.models.inception import InceptionImageEncoder
from ssagan_jax.models.lstm import LstmTextEncoder
from ssagan_jax.models.vocabulary import Vocabulary

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Networks:
    """The four networks; they hold no parameters."""

    text_encoder: nn.Module
    image_encoder: nn.Module
    generator: Generator
    discriminator: Discriminator


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """Adam for each network, and for the encoders in each stage."""

    damsm: optax.GradientTransformation
    encoders: optax.GradientTransformation
    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation


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


def build_networks(
    config: ConfigDict, vocabulary: Vocabulary, axis_name: str | None = None
) -> Networks:
    """The networks that a config describes; `axis_name` is the mapped axis of the global batch.

    Those without an axis are there to paint and to score, and compute in float32 always.
    """
    narrow = axis_name is not None and config.train.compute_dtype == "bfloat16"
    dtype = jnp.bfloat16 if narrow else None
    return Networks(
        text_encoder=_text_encoder(config, vocabulary, axis_name, dtype),
        image_encoder=_image_encoder(config, axis_name, dtype),
        generator=Generator(
            image_size=config.data.image_size,
            channels=config.generator.channels,
            ssacn_blocks=config.generator.ssacn_blocks,
            mask_channels=config.generator.mask_channels,
            modulation=config.generator.modulation,
            upsampling=config.generator.upsampling,
            axis_name=axis_name,
            remat=config.train.remat,
            dtype=dtype,
        ),
        discriminator=Discriminator(
            config.data.image_size, config.discriminator.channels, config.train.remat, dtype
        ),
    )


def _text_encoder(
    config: ConfigDict, vocabulary: Vocabulary, axis_name: str | None, dtype: DTypeLike | None
) -> nn.Module:
    text = config.text_encoder
    if text.name == "lstm":
        return LstmTextEncoder(
            vocabulary.size, text.embedding_dim, text.word_dim, text.dropout, axis_name, dtype
        )
    if text.vocab_size and text.vocab_size < vocabulary.size:
        raise ConfigError(
            f"config.text_encoder.vocab_size={text.vocab_size}: must be 0 or at least the "
            f"tokenizer's {vocabulary.size}"
        )
    bert = BertConfig(
        vocab_size=text.vocab_size or vocabulary.size,
        hidden_size=text.hidden_size,
        num_layers=text.num_layers,
        num_heads=text.num_heads,
        intermediate_size=text.intermediate_size,
        max_positions=text.max_positions,
        type_vocab_size=text.type_vocab_size,
        dropout=text.bert_dropout,
        layer_norm_eps=text.layer_norm_eps,
        hidden_act=text.hidden_act,
    )
    return BertTextEncoder(
        bert,
        cls_id=vocabulary.cls_id,
        sep_id=vocabulary.sep_id,
        pad_id=vocabulary.pad_id,
        embedding_dim=text.embedding_dim,
        pooling=text.pooling,
        axis_name=axis_name,
        dtype=dtype,
    )


def _image_encoder(config: ConfigDict, axis_name: str | None, dtype: DTypeLike | None) -> nn.Module:
    if config.image_encoder.name == "inception_v3":
        return InceptionImageEncoder(config.text_encoder.embedding_dim, axis_name, dtype)
    return CnnImageEncoder(config.text_encoder.embedding_dim, config.image_encoder.channels, dtype)


def build_optimizers(config: ConfigDict, damsm_steps: int) -> Optimizers:
    """Adam as in the paper; stage 1 warms up and falls along a cosine to stage 2's rate."""
    train, damsm = config.train, config.damsm

    def adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        return optax.adam(rate, b1=train.b1, b2=train.b2)

    warmup = min(damsm.warmup_steps, damsm_steps // 2)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, damsm.learning_rate, warmup, max(damsm_steps, 1), train.encoder_learning_rate
    )
    # In form like stage 1's, so that the optimizer's state looks alike in both stages.
    constant = optax.constant_schedule(train.encoder_learning_rate)
    clip = optax.clip_by_global_norm(damsm.clip_norm)
    return Optimizers(
        damsm=optax.chain(clip, optax.adam(rate, b1=damsm.b1, b2=damsm.b2)),
        encoders=optax.chain(optax.identity(), adam(constant)),
        generator=adam(config.generator.learning_rate),
        discriminator=adam(config.discriminator.learning_rate),
    )


def initial_variables(config: ConfigDict, networks: Networks) -> dict[str, PyTree]:
    """Initial variables from `config.seed`: the collections of each network by its name."""
    keys = jax.random.split(jax.random.key(config.seed), 5)
    size = config.data.image_size
    image = jnp.zeros((2, size, size, 3))
    tokens = jnp.zeros((2, config.data.max_words), jnp.int32)
    sentence = jnp.zeros((2, config.text_encoder.embedding_dim))
    noise = jnp.zeros((2, config.generator.noise_dim))
    text = networks.text_encoder.init(keys[0], tokens, jnp.ones_like(tokens, bool), False)
    return {
        "text_encoder": text,
        "image_encoder": networks.image_encoder.init(keys[1], image),
        "generator": networks.generator.init(keys[2], noise, sentence, False),
        "discriminator": networks.discriminator.init(keys[3], image, sentence),
    }


def new_state(
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


def variables_of(state: TrainState) -> dict[str, PyTree]:
    """The collections of each network by its name, as `new_state` takes them."""
    return {
        "text_encoder": {"params": state.encoders["text"]},
        "image_encoder": {"params": state.encoders["image"], "trunk": state.trunk},
        "generator": {"params": state.generator, "batch_stats": state.batch_stats},
        "discriminator": {"params": state.discriminator},
    }


def create_state(config: ConfigDict, networks: Networks, optimizers: Optimizers) -> TrainState:
    """The state of a new run with initial weights from `config.seed`."""
    return new_state(config, initial_variables(config, networks), optimizers)


def initial_state(config: ConfigDict, vocabulary: Vocabulary) -> TrainState:
    """The state of a new run; under `jax.eval_shape`, its shapes and types alone."""
    networks = build_networks(config, vocabulary)
    # Only the form of the optimizers' states is asked for, and no number of steps changes it.
    return create_state(config, networks, build_optimizers(config, damsm_steps=1))


def begin_gan_stage(state: TrainState, optimizers: Optimizers) -> TrainState:
    """The state at the start of stage 2: the encoders' optimizer starts afresh."""
    return state.replace(encoders_opt=optimizers.encoders.init(state.encoders))


def painting_variables(state: TrainState) -> dict[str, PyTree]:
    """The generator's variables to paint with: the averaged ones where the run keeps them."""
    if state.average is not None:
        return state.average
    return {"params": state.generator, "batch_stats": state.batch_stats}
