"""Every hyperparameter with its default and meaning; `validation` has the allowed values.

Defaults are those of "Text to Image Generation with Semantic-Spatial Aware GAN and BERT" with its
bi-LSTM, and where SSA-GAN's code differs mostly of that (docs/training.md, "Paper or reference");
`configs/*.py` set what differs.
"""

from typing import Any

from ml_collections import ConfigDict

from ssagan_jax.errors import InputError


class ConfigError(InputError):
    """Invalid config; the message names the key, its value and the allowed values."""


_DEFAULTS = {
    "seed": 0,  # of initial weights, noise, augmentation and the order of the images
    "data": {
        "name": "toy_cars",  # toy_cars (generated), birds (AttnGAN layout) or a prepared set
        "dir": "",  # folder of the birds; unused by the others
        "prepared_dir": "",  # folder of prepared sets; empty: that of TFDS (TFDS_DATA_DIR)
        "image_size": 256,  # height and width in pixels: 32, 64, 128, 256, 512 or 1024
        "max_words": 18,  # words or word pieces of a caption that are read
        "random_flip": True,  # mirror training images at random; their captions' left becomes right
        "bad_images": "error",  # images that cannot be decoded: "error" stops, "skip" skips them
        "cache_mb": 4096,  # decoded images of a split in memory, in MiB
        "device_cache_mb": -1,  # the same on each device; -1: 2048 on accelerators, 0 on CPUs
        "cache_disk_mb": 65536,  # largest file for a split above cache_mb, in MiB; 0: no file
    },
    "tokenizer": {
        "kind": "words",  # "words" of the training captions, or "wordpiece" (BERT)
        "vocab_size": 30_000,  # most entries to learn from the captions
        "pretrained": "",  # Hugging Face name or folder of a wordpiece; empty: learn one
    },
    "text_encoder": {
        "name": "lstm",  # "lstm" or "bert"
        "embedding_dim": 256,  # size of word and sentence embeddings
        "normalize": False,  # scale sentence embeddings to a mean square of 1: changes the
        # input of the GAN's networks and MA-GP, not DAMSM, whose cosines ignore length
        "dropout": 0.5,  # lstm: of the word vectors
        "word_dim": 300,  # lstm: size of the word vectors
        "hidden_size": 256,  # bert: width (256 in the paper, 768 in BERT-base)
        "num_layers": 12,  # bert
        "num_heads": 8,  # bert: must divide hidden_size
        "intermediate_size": 1024,  # bert: hidden width of the feed-forward layers
        "bert_dropout": 0.1,  # bert: of hidden states and attention
        "vocab_size": 0,  # bert: rows of the embedding table; 0: size of the vocabulary
        "max_positions": 512,  # bert: rows of the position table
        "type_vocab_size": 2,  # bert: rows of the token type table
        "layer_norm_eps": 1e-12,  # bert
        "hidden_act": "gelu",  # bert: "gelu", "gelu_new" or "relu"
        "pooling": "cls",  # bert: sentence embedding from the first token ("cls") or the "mean"
        "pretrained": "",  # bert: Hugging Face name or folder; its sizes replace those above
    },
    "image_encoder": {
        "name": "cnn",  # "cnn", from scratch, or "inception_v3" (the paper), which needs `weights`
        "channels": 32,  # cnn: width of the first layer
        "pooling": "mean",  # cnn: of the code over positions; "flatten" keeps where things are
        "statistics": "running",  # inception_v3: of its batch norms; "batch": per batch (reference)
        "weights": "",  # inception_v3: torchvision's file (.pth or .safetensors)
    },
    "generator": {
        "noise_dim": 100,  # size of the noise vector
        "channels": 64,  # width of the last block; the first ones have 8 times as many
        "ssacn_blocks": 7,  # semantic-spatial aware blocks from 4 x 4 up; the others are plain
        "mask_channels": 100,  # hidden width of the mask predictors
        "modulation": "reference",  # (1 + m g) x + m b; "paper": m (g x + b), eq. 3
        "upsampling": "nearest",  # of features (reference); "bilinear" (the paper)
        "residual_gain": 0.0,  # initial scale of the blocks' residual branches (reference: 0)
        "conditioning_augmentation": False,  # blocks see a random variation of the sentence
        "learning_rate": 1e-4,
    },
    "discriminator": {
        "channels": 64,  # width of the first convolution
        "residual_gain": 0.0,  # as the generator's; with 0 it first sees images of 4 x 4 pixels
        "projection_channels": 0,  # of the features that are also multiplied with the sentence; 0:
        # none, the logit comes from both concatenated (the paper)
        "concat_sentence": True,  # with the features (the paper); False: the logit depends on the
        # sentence by that product alone, as in projection discriminators
        "minibatch_stddev": False,  # it sees how much the images of a batch differ
        "learning_rate": 4e-4,
        "updates": 1,  # 1: all terms of eq. 6 at once; 2: hinge, then MA-GP (reference)
    },
    "loss": {
        "damsm_weight": 0.1,  # lambda_DA, of DAMSM in the generator's loss (eq. 5)
        "damsm_weight_start": 1.0,  # lambda_DA at the start of stage 2, if damsm_decay_steps is set
        "damsm_decay_steps": 0,  # steps in which lambda_DA goes along a cosine from
        # damsm_weight_start to damsm_weight; 0: it is damsm_weight from the start
        "damsm_words": True,  # False: DAMSM compares sentences only, in a fraction of the time
        "magp_weight": 2.0,  # lambda_MA (eq. 6)
        "magp_every": 1,  # steps for one with MA-GP, which then has so many times its weight
        "magp_power": 6.0,  # p (eq. 6)
        "magp_norm": "joint",  # norm of both gradients together (reference); "sum" (eq. 6)
        "mismatched": "roll",  # the next caption, and the first one for the last image; "shift":
        # no caption for the last image (reference); "nearest": the most similar one of the batch
        "num_mismatched": 1,  # mismatched captions of each image, at most all others of the batch
        "sentence_queue": 0,  # captions of earlier steps for nearest and the contrastive loss, too
        "contrastive_weight": 0.0,  # of telling a real image's sentence from others by the inner
        # product of discriminator.projection_channels, in the discriminator's loss
        "contrastive_gamma": 10.0,  # sharpness of this contrast
        "contrastive_captions": 1,  # captions of each image in it, at most as many as it has
        "lecam_weight": 0.0,  # of how far the discriminator's logits are from the moving average of
        # the other kind of images, in its loss
        "diversity_weight": 0.0,  # of the distance between two images of one caption, up to what
        # the caption leaves open, in the generator's loss
        "kl_weight": 1.0,  # with conditioning_augmentation: of how far the variations are from
        # standard normal ones, in the generator's loss
        "gamma1": 5.0,  # sharpness of the attention over regions
        "gamma2": 5.0,  # sharpness over words
        "gamma3": 10.0,  # sharpness of the contrast between captions (eq. 1)
    },
    "augment": {
        "policy": "",  # of what the discriminator sees: some of color, translation and cutout,
        # separated by commas; empty: none
    },
    "damsm": {
        "epochs": 200,  # epochs of stage 1, which trains both encoders by DAMSM
        "steps": 0,  # steps of stage 1 instead of epochs; 0: epochs
        "batch_size": 0,  # images per step of stage 1, and captions that DAMSM tells apart; 0:
        # train.batch_size, else a multiple of it
        "learning_rate": 2e-3,  # peak; decays by a cosine to train.encoder_learning_rate
        "warmup_steps": 100,  # in which the learning rate rises from 0
        "b1": 0.5,  # Adam
        "b2": 0.999,  # Adam
        "clip_norm": 0.25,  # largest norm of the gradient in stage 1
        "checkpoint": "",  # work folder, model folder or USER/NAME of the hub whose encoders and
        # tokenizer replace stage 1
    },
    "train": {
        "batch_size": 16,  # images per step over all devices
        "epochs": 150,  # epochs of stage 2, which trains the GAN
        "steps": 0,  # steps of stage 2 instead of epochs; 0: epochs
        "b1": 0.0,  # Adam of generator, discriminator and encoders
        "b2": 0.9,
        "encoder_learning_rate": 4e-5,  # of the encoders in stage 2
        "encoders": "trained",  # in stage 2: "trained" by DAMSM, or "frozen"
        "checkpoint": "",  # work folder, model folder or USER/NAME of the hub whose networks and
        # tokenizer are fine-tuned, without stage 1
        "ema_decay": 0.0,  # if above 0, images are generated with an EMA of the generator's weights
        "ema_half_life": 0,  # of that EMA in images instead of ema_decay; 0: ema_decay
        "ema_rampup": 0.05,  # largest ema_half_life as a share of the images seen; 0: no limit
        "max_nonfinite_steps": 10,  # steps in a row with NaN or infinity before training aborts
        "remat": False,  # recompute blocks in the backward pass: less memory, more time
        "compute_dtype": "float32",  # of activations, or "bfloat16" (parameters, batch statistics
        # and losses stay float32)
        "grad_accumulation_steps": 1,  # microbatches per step and device
        "compilation_cache": "",  # folder of compiled programs; "off": none; empty: the user's
    },
    "eval": {
        "every_epochs": 0,  # epochs of stage 2 between scores; 0: only at the end
        "num": 0,  # generated images to score; 0: one per validation image
        "inception_weights": "",  # file for IS, FID, KID, precision and recall; "download":
        # the published file; empty: that file if it is in the cache, else none of these scores
        "inception_variant": "fid",  # of the file; "torchvision" is added to the scores' names
        "splits": 10,  # of the Inception Score
        "nearest": True,  # find the nearest training image of each generated one
        "batch_size": 64,  # images at a time over all devices
        "best": "",  # score by which the best checkpoint is kept apart, such as "kid"; empty: none
    },
    "log": {
        "scalars_every": 50,  # steps between scalars
        "sample_grid_every": 1000,  # steps of stage 2 between sample grids
        "health_every": 100,  # steps of stage 2 between signs of overfitting and collapse; 0: none
        "sample_grid_rows": 8,  # captions in a sample grid of a new run
        "checkpoint_every": 1000,  # steps between checkpoints
        "keep_checkpoints": 3,  # number of latest checkpoints to keep
        "profile": False,  # trace steps 10 to 15 of each stage, for xprof (TensorBoard's profiler)
    },
}


def default_config() -> ConfigDict:
    """The paper's bi-LSTM model on the built-in toy cars, 256 pixels, locked against new keys."""
    return ConfigDict(_DEFAULTS).lock()


def config_from_dict(values: dict[str, Any]) -> ConfigDict:
    """The config of nested values, as `to_dict` returns them; missing ones have their default.

    Raises:
      ConfigError: there is no such key.
      TypeError, ValueError, AttributeError: a value is not of this version.
    """
    config = default_config()
    known = flatten(config).keys()
    for section, value in values.items():
        keys = {f"{section}.{key}" for key in value} if isinstance(value, dict) else {section}
        if unknown := sorted(keys - known):
            raise ConfigError(f"there is no key {unknown[0]}")
    config.update(values)
    return config


def set_dataset(config: ConfigDict, name: str) -> ConfigDict:
    """Sets the data set of a config, the NAME in `config.py:NAME`, and returns the config.

    Args:
      config: changed in place.
      name: "toy_cars", "birds" or the name of a set that `ssagan_jax.prepare` wrote.
    """
    config.data.name = name
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """The values by dotted key."""
    return {
        f"{section}.{key}" if key else section: value
        for section, values in config.to_dict().items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def warm_start_dir(config: ConfigDict) -> str:
    """The run or model whose weights and tokenizer a run starts from; empty for none."""
    return config.train.checkpoint or config.damsm.checkpoint


# Keys that may change when a run is resumed, besides those of `eval` and `log`.
_FREE_KEYS = {
    "train.epochs",
    "train.steps",
    "train.max_nonfinite_steps",
    "train.remat",
    "train.compute_dtype",
    "train.grad_accumulation_steps",
    "train.compilation_cache",
    "data.dir",
    "data.prepared_dir",
    "data.cache_mb",
    "data.cache_disk_mb",
    "data.device_cache_mb",
}


def incompatible_keys(saved: ConfigDict, current: ConfigDict) -> list[str]:
    """Lines "key: saved -> current" for the differing keys that may not change within a run."""
    before, after = flatten(saved), flatten(current)
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and key not in _FREE_KEYS
        and not key.startswith(("eval.", "log."))
    ]
