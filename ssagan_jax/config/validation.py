"""The allowed values of each config key."""

import difflib
import re
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ssagan_jax.config import ConfigError, default_config, flatten, warm_start_dir
from ssagan_jax.errors import InputError

Constraint = tuple[Callable[[Any], bool], str]


def _one_of(*allowed: Any) -> Constraint:
    return (lambda value: value in allowed), "one of " + ", ".join(repr(item) for item in allowed)


_AT_LEAST_0: Constraint = (lambda value: value >= 0), "0 or more"
_AT_LEAST_1: Constraint = (lambda value: value >= 1), "1 or more"
_ABOVE_0: Constraint = (lambda value: value > 0), "above 0"
_SHARE: Constraint = (lambda value: 0 <= value < 1), "at least 0 and below 1"

_POLICIES = ("color", "translation", "cutout")
# The scores that `eval.best` may name, and which of two values is better.
BEST_SCORES: dict[str, Callable[..., float]] = {
    "fid": min,
    "kid": min,
    "inception_score": max,
    "precision": max,
    "recall": max,
    "r_precision": max,
    "encoder_frechet": min,
    "attributes/color": max,
    "attributes/facing": max,
    "attributes/body": max,
}

# Distributions of fewer images, real or generated, are not compared.
MIN_IMAGES = 4

# Dotted key to a predicate and a description of the values that satisfy it.
CONSTRAINTS: dict[str, Constraint] = {
    "seed": ((lambda value: 0 <= value < 2**32), "0 to 4294967295"),
    "data.name": (
        lambda name: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name) is not None,
        "at most 64 letters, digits, _ and -, beginning with a letter or digit, such as my_cars",
    ),
    "data.image_size": (
        lambda size: size >= 32 and size & (size - 1) == 0 and size <= 1024,
        "32, 64, 128, 256, 512 or 1024: the blocks double 4 x 4 pixels",
    ),
    "data.max_words": ((lambda value: 1 <= value <= 510), "1 to 510"),
    "data.bad_images": _one_of("error", "skip"),
    "data.cache_mb": _AT_LEAST_0,
    "data.cache_disk_mb": _AT_LEAST_0,
    "data.device_cache_mb": ((lambda value: value >= -1), "-1 or more"),
    "tokenizer.kind": _one_of("words", "wordpiece"),
    "tokenizer.vocab_size": (lambda value: value >= 100, "100 or more"),
    "text_encoder.name": _one_of("lstm", "bert"),
    "text_encoder.embedding_dim": (
        lambda value: value >= 2 and value % 2 == 0,
        "an even number: each direction of the LSTM gives half",
    ),
    "text_encoder.dropout": _SHARE,
    "text_encoder.word_dim": _AT_LEAST_1,
    "text_encoder.hidden_size": _AT_LEAST_1,
    "text_encoder.num_layers": _AT_LEAST_1,
    "text_encoder.num_heads": _AT_LEAST_1,
    "text_encoder.intermediate_size": _AT_LEAST_1,
    "text_encoder.bert_dropout": _SHARE,
    "text_encoder.vocab_size": _AT_LEAST_0,
    "text_encoder.max_positions": (lambda value: value >= 3, "3 or more: [CLS], a word and [SEP]"),
    "text_encoder.type_vocab_size": _AT_LEAST_1,
    "text_encoder.layer_norm_eps": _ABOVE_0,
    "text_encoder.hidden_act": _one_of("gelu", "gelu_new", "relu"),
    "text_encoder.pooling": _one_of("cls", "mean"),
    "image_encoder.name": _one_of("cnn", "inception_v3"),
    "image_encoder.channels": _AT_LEAST_1,
    "image_encoder.pooling": _one_of("mean", "flatten"),
    "image_encoder.statistics": _one_of("running", "batch"),
    "generator.noise_dim": _AT_LEAST_1,
    "generator.channels": _AT_LEAST_1,
    "generator.ssacn_blocks": _AT_LEAST_0,
    "generator.mask_channels": _AT_LEAST_1,
    "generator.modulation": _one_of("reference", "paper"),
    "generator.upsampling": _one_of("nearest", "bilinear"),
    "generator.residual_gain": _AT_LEAST_0,
    "generator.learning_rate": _ABOVE_0,
    "discriminator.channels": _AT_LEAST_1,
    "discriminator.residual_gain": _AT_LEAST_0,
    "discriminator.projection_channels": _AT_LEAST_0,
    "discriminator.learning_rate": _ABOVE_0,
    "discriminator.updates": _one_of(1, 2),
    "loss.damsm_weight": _AT_LEAST_0,
    "loss.damsm_weight_start": _AT_LEAST_0,
    "loss.damsm_decay_steps": _AT_LEAST_0,
    "loss.magp_weight": _AT_LEAST_0,
    "loss.magp_every": _AT_LEAST_1,
    "loss.magp_power": _AT_LEAST_1,
    "loss.magp_norm": _one_of("joint", "sum"),
    "loss.mismatched": _one_of("roll", "shift", "nearest"),
    "loss.num_mismatched": _AT_LEAST_1,
    "loss.sentence_queue": _AT_LEAST_0,
    "loss.lecam_weight": _AT_LEAST_0,
    "loss.contrastive_weight": _AT_LEAST_0,
    "loss.contrastive_gamma": _ABOVE_0,
    "loss.contrastive_captions": _AT_LEAST_1,
    "loss.diversity_weight": _AT_LEAST_0,
    "loss.kl_weight": _AT_LEAST_0,
    "loss.gamma1": _ABOVE_0,
    "loss.gamma2": _ABOVE_0,
    "loss.gamma3": _ABOVE_0,
    "augment.policy": (
        lambda policy: (
            policy == ""
            or (set(names := policy.split(",")) <= set(_POLICIES) and len(set(names)) == len(names))
        ),
        f"empty or some of {', '.join(_POLICIES)}, each once, separated by commas",
    ),
    "damsm.epochs": _AT_LEAST_0,
    "damsm.steps": _AT_LEAST_0,
    "damsm.batch_size": _AT_LEAST_0,
    "damsm.learning_rate": _ABOVE_0,
    "damsm.warmup_steps": _AT_LEAST_0,
    "damsm.b1": _SHARE,
    "damsm.b2": _SHARE,
    "damsm.clip_norm": _ABOVE_0,
    "train.batch_size": (lambda value: value >= 2, "2 or more: captions need a mismatched one"),
    "train.epochs": _AT_LEAST_1,
    "train.steps": _AT_LEAST_0,
    "train.b1": _SHARE,
    "train.b2": _SHARE,
    "train.encoder_learning_rate": _ABOVE_0,
    "train.encoders": _one_of("trained", "frozen"),
    "train.ema_decay": _SHARE,
    "train.ema_half_life": _AT_LEAST_0,
    "train.ema_rampup": _AT_LEAST_0,
    "train.max_nonfinite_steps": _AT_LEAST_1,
    "train.compute_dtype": _one_of("float32", "bfloat16"),
    "train.grad_accumulation_steps": _AT_LEAST_1,
    "eval.every_epochs": _AT_LEAST_0,
    "eval.num": _AT_LEAST_0,
    "eval.inception_variant": _one_of("fid", "torchvision"),
    "eval.best": _one_of("", *BEST_SCORES),
    "eval.splits": _AT_LEAST_1,
    "eval.batch_size": _AT_LEAST_1,
    "log.scalars_every": _AT_LEAST_1,
    "log.health_every": _AT_LEAST_0,
    "log.sample_grid_every": _AT_LEAST_1,
    "log.sample_grid_rows": _AT_LEAST_1,
    "log.checkpoint_every": _AT_LEAST_1,
    "log.keep_checkpoints": _AT_LEAST_1,
}


def check_key(key: str) -> None:
    """Checks that a dotted key exists.

    Raises:
      ConfigError: it does not; names similar keys.
    """
    known = flatten(default_config())
    if key not in known:
        similar = difflib.get_close_matches(key, known, cutoff=0.8) or sorted(
            name for name in known if name.startswith(key.partition(".")[0] + ".")
        )
        hint = f"did you mean {' or '.join(similar)}?" if similar else "see docs/training.md"
        raise ConfigError(f"config.{key}: there is no such key; {hint}")


def check_number(key: str, text: str) -> None:
    """Raises ConfigError if a key is a number and the text that shall be its value is none."""
    kind = type(flatten(default_config())[key])
    if kind not in (int, float):
        return
    try:
        kind(text)
    except ValueError:
        allowed = "a whole number" if kind is int else "a number"
        raise ConfigError(f"config.{key}={text!r}: must be {allowed}") from None


def check_value(key: str, value: Any) -> None:
    """Raises ConfigError if a dotted key may not have this value."""
    is_allowed, allowed = CONSTRAINTS.get(key, (lambda _: True, ""))
    if not is_allowed(value):
        raise ConfigError(f"config.{key}={value!r}: must be {allowed}")


def validate(config: ConfigDict) -> None:
    """Checks all values, each for itself and those that depend on each other.

    Raises:
      ConfigError: names the key, its value and what is allowed.
    """
    values = flatten(config)
    for key in CONSTRAINTS:
        check_value(key, values[key])
    text, image = config.text_encoder, config.image_encoder
    if text.name == "bert" and not text.pretrained and text.hidden_size % text.num_heads:
        raise ConfigError(
            f"config.text_encoder.num_heads={text.num_heads}: must divide "
            f"config.text_encoder.hidden_size={text.hidden_size}"
        )
    if config.damsm.batch_size % config.train.batch_size:
        raise ConfigError(
            f"config.damsm.batch_size={config.damsm.batch_size}: must be 0 or a multiple of "
            f"config.train.batch_size={config.train.batch_size}"
        )
    if config.train.checkpoint and config.damsm.checkpoint:
        raise ConfigError(
            f"config.damsm.checkpoint={config.damsm.checkpoint!r}: config.train.checkpoint="
            f"{config.train.checkpoint!r} has encoders, too; set one of them"
        )
    words, most_words = config.data.max_words, text.max_positions - 2
    if text.name == "bert" and words > most_words:
        raise ConfigError(
            f"config.data.max_words={words}: must be at most {most_words}, since [CLS] and [SEP] "
            f"count towards config.text_encoder.max_positions={text.max_positions}"
        )
    weight = config.loss.contrastive_weight
    projecting = {
        f"config.loss.contrastive_weight={weight} is above 0": weight > 0,
        "config.discriminator.concat_sentence=False": not config.discriminator.concat_sentence,
    }
    for reason, holds in projecting.items():
        if holds and not config.discriminator.projection_channels:
            raise ConfigError(
                "config.discriminator.projection_channels=0: must be 1 or more, such as 64, if "
                f"{reason}"
            )
    if text.name == "bert" and config.tokenizer.kind != "wordpiece":
        raise ConfigError(
            f"config.tokenizer.kind={config.tokenizer.kind!r}: must be 'wordpiece' if "
            "config.text_encoder.name='bert'"
        )
    if text.pretrained and config.tokenizer.pretrained != text.pretrained:
        raise ConfigError(
            f"config.tokenizer.pretrained={config.tokenizer.pretrained!r}: must equal "
            f"config.text_encoder.pretrained={text.pretrained!r}, whose weights know only their "
            "own vocabulary"
        )
    if image.name == "inception_v3" and not image.weights and not warm_start_dir(config):
        raise ConfigError(
            "config.image_encoder.weights='': must name torchvision's inception_v3 file if "
            "config.image_encoder.name='inception_v3' (download "
            "inception_v3_google-0cc3c7bd.pth), or set config.image_encoder.name='cnn'"
        )


def check_seed(seed: int, name: str = "--seed") -> None:
    """Raises InputError for a seed outside of the range of `config.seed`."""
    is_allowed, allowed = CONSTRAINTS["seed"]
    if not is_allowed(seed):
        raise InputError(f"{name}={seed}: must be {allowed}")
