"""What values each configuration key may take."""

import re
from collections.abc import Callable
from typing import Any

Rule = tuple[Callable[[Any], bool], str]


def _one_of(*allowed: Any) -> Rule:
    return (lambda value: value in allowed), "one of " + ", ".join(repr(item) for item in allowed)


_AT_LEAST_0: Rule = (lambda value: value >= 0), "0 or more"
_AT_LEAST_1: Rule = (lambda value: value >= 1), "1 or more"
_ABOVE_0: Rule = (lambda value: value > 0), "above 0"
_SHARE: Rule = (lambda value: 0 <= value < 1), "at least 0 and below 1"

# Dotted key to a test of its value and the words for what passes it.
RULES: dict[str, Rule] = {
    "seed": ((lambda value: 0 <= value < 2**32), "0 to 4294967295"),
    "data.name": (
        lambda name: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name) is not None,
        "toy_cars, birds or the name of prepared data: letters, digits, _ and -",
    ),
    "data.image_size": (
        lambda size: size >= 32 and size & (size - 1) == 0 and size <= 1024,
        "32, 64, 128, 256, 512 or 1024: the blocks double 4 x 4 pixels",
    ),
    "data.max_words": ((lambda value: 1 <= value <= 510), "1 to 510"),
    "data.bad_images": _one_of("error", "skip"),
    "data.cache_mb": _AT_LEAST_0,
    "data.cache_disk_mb": _AT_LEAST_0,
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
    "image_encoder.statistics": _one_of("kept", "batch"),
    "generator.noise_dim": _AT_LEAST_1,
    "generator.channels": _AT_LEAST_1,
    "generator.ssacn_blocks": _AT_LEAST_0,
    "generator.mask_channels": _AT_LEAST_1,
    "generator.modulation": _one_of("reference", "paper"),
    "generator.upsampling": _one_of("nearest", "bilinear"),
    "generator.learning_rate": _ABOVE_0,
    "discriminator.channels": _AT_LEAST_1,
    "discriminator.learning_rate": _ABOVE_0,
    "discriminator.updates": _one_of(1, 2),
    "loss.damsm_weight": _AT_LEAST_0,
    "loss.magp_weight": _AT_LEAST_0,
    "loss.magp_power": _AT_LEAST_1,
    "loss.magp_norm": _one_of("joint", "sum"),
    "loss.mismatched": _one_of("roll", "shift"),
    "loss.gamma1": _ABOVE_0,
    "loss.gamma2": _ABOVE_0,
    "loss.gamma3": _ABOVE_0,
    "damsm.epochs": _AT_LEAST_0,
    "damsm.steps": _AT_LEAST_0,
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
    "train.max_bad_steps": _AT_LEAST_1,
    "train.compute_dtype": _one_of("float32", "bfloat16"),
    "train.accumulate": _AT_LEAST_1,
    "eval.every_epochs": _AT_LEAST_0,
    "eval.num": _AT_LEAST_0,
    "eval.inception_variant": _one_of("fid", "torchvision"),
    "eval.splits": _AT_LEAST_1,
    "eval.batch_size": _AT_LEAST_1,
    "log.scalars_every": _AT_LEAST_1,
    "log.sheet_every": _AT_LEAST_1,
    "log.sheet_rows": _AT_LEAST_1,
    "log.checkpoint_every": _AT_LEAST_1,
    "log.keep_checkpoints": _AT_LEAST_1,
}
