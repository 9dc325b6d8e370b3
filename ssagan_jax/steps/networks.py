"""The four networks of a run, the range of their input images, and their initial variables."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from ssagan_jax.config import ConfigError
from ssagan_jax.models.bert import BertConfig, BertTextEncoder
from ssagan_jax.models.discriminator import Discriminator
from ssagan_jax.models.generator import Generator
from ssagan_jax.models.image_encoder import CnnImageEncoder
from ssagan_jax.models.inception import InceptionImageEncoder
from ssagan_jax.models.lstm import LstmTextEncoder
from ssagan_jax.models.vocabulary import Vocabulary

PyTree = Any

KEY_IMPL = "threefry2x32"  # Of all random keys.


@dataclasses.dataclass(frozen=True)
class Networks:
    """The four networks, without parameters.

    Attributes:
      text_encoder: tokens i32[B, T], mask bool[B, T] to words f32[B, T, E], sentence f32[B, E].
      image_encoder: images f32[B, S, S, 3] in [-1, 1] to regions f32[B, R, E], codes f32[B, E].
      generator: noise f32[B, N], sentence f32[B, E] to images f32[B, S, S, 3] in (-1, 1), masks.
      discriminator: images and sentences to logits f32[B] and features.
      axis_name: mapped axis of the global batch that they were built with, or None.
    """

    text_encoder: nn.Module
    image_encoder: nn.Module
    generator: Generator
    discriminator: Discriminator
    axis_name: str | None = None


def normalize_images(pixels: jax.Array) -> jax.Array:
    """Pixels u8 in [0, 255] to f32 in [-1, 1], the range of all networks."""
    return pixels.astype(jnp.float32) / 127.5 - 1


def build_networks(
    config: ConfigDict, vocabulary: Vocabulary, axis_name: str | None = None
) -> Networks:
    """The networks that a config describes.

    Args:
      config: the run's configuration.
      vocabulary: of its tokenizer.
      axis_name: mapped axis of the global batch in training; None for sampling and evaluation,
        which compute in float32 whatever `config.train.compute_dtype` is.

    Raises:
      ConfigError: the tokenizer has more entries than the text encoder.
    """
    mixed_precision = axis_name is not None and config.train.compute_dtype == "bfloat16"
    dtype = jnp.bfloat16 if mixed_precision else None
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
            residual_gain=config.generator.residual_gain,
            conditioning_augmentation=config.generator.conditioning_augmentation,
            axis_name=axis_name,
            remat=config.train.remat,
            dtype=dtype,
        ),
        discriminator=Discriminator(
            image_size=config.data.image_size,
            channels=config.discriminator.channels,
            residual_gain=config.discriminator.residual_gain,
            projection_channels=config.discriminator.projection_channels,
            concat_sentence=config.discriminator.concat_sentence,
            minibatch_stddev=config.discriminator.minibatch_stddev,
            axis_name=axis_name,
            remat=config.train.remat,
            dtype=dtype,
        ),
        axis_name=axis_name,
    )


def _text_encoder(
    config: ConfigDict, vocabulary: Vocabulary, axis_name: str | None, dtype: DTypeLike | None
) -> nn.Module:
    text = config.text_encoder
    if text.name == "lstm":
        return LstmTextEncoder(
            vocabulary.size,
            text.embedding_dim,
            text.word_dim,
            text.dropout,
            text.normalize,
            axis_name,
            dtype,
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
        normalize=text.normalize,
        axis_name=axis_name,
        dtype=dtype,
    )


def _image_encoder(config: ConfigDict, axis_name: str | None, dtype: DTypeLike | None) -> nn.Module:
    if config.image_encoder.name == "inception_v3":
        return InceptionImageEncoder(config.text_encoder.embedding_dim, axis_name, dtype)
    image = config.image_encoder
    return CnnImageEncoder(config.text_encoder.embedding_dim, image.channels, image.pooling, dtype)


def crop_images(images: jax.Array, crops: jax.Array, size: int) -> jax.Array:
    """Crops u8[b, size, size, 3] of some images, as the input pipeline makes them on the host.

    Args:
      images: u8[N, H, W, 3].
      crops: i32[b, 4], index, top, left and whether it is mirrored, of each.
      size: edge in pixels.
    """

    def crop_one(crop: jax.Array) -> jax.Array:
        index, top, left, mirrored = crop
        start = index, top, left, jnp.int32(0)
        image = jax.lax.dynamic_slice(images, start, (1, size, size, 3))[0]
        return jnp.where(mirrored, image[:, ::-1], image)

    return jax.vmap(crop_one)(crops)


def seed_key(seed: int | jax.Array) -> jax.Array:
    """The random key of a seed, however the user's program has configured JAX."""
    return jax.random.key(seed, impl=KEY_IMPL)


def initial_variables(config: ConfigDict, networks: Networks) -> dict[str, PyTree]:
    """Variables drawn from `config.seed`: the collections of each network, by its name."""
    keys = jax.random.split(seed_key(config.seed), 5)
    size = config.data.image_size
    image = jnp.zeros((2, size, size, 3))
    tokens = jnp.zeros((2, config.data.max_words), jnp.int32)
    sentence = jnp.zeros((2, config.text_encoder.embedding_dim))
    noise = jnp.zeros((2, config.generator.noise_dim))
    text = networks.text_encoder.init(keys[0], tokens, jnp.ones_like(tokens, bool), False)
    stored = ("params", "batch_stats")  # Not the losses that it sows.
    return {
        "text_encoder": text,
        "image_encoder": networks.image_encoder.init(keys[1], image),
        "generator": networks.generator.init(keys[2], noise, sentence, False, mutable=stored),
        "discriminator": networks.discriminator.init(keys[3], image, sentence),
    }
