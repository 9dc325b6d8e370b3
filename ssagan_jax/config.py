"""Every hyperparameter with its default and meaning; `config_validation` has the allowed values.

Defaults are those of "Text to Image Generation with Semantic-Spatial Aware GAN and BERT" with its
bi-LSTM; `configs/*.py` set what differs.
"""

from typing import Any

from ml_collections import ConfigDict

from ssagan_jax.errors import InputError


class ConfigError(InputError):
    """Invalid config; the message names the key, its value and the allowed values."""


def default_config() -> ConfigDict:
    """The paper's bi-LSTM model on the embedded data set, 256 pixels, locked against new keys."""
    config = ConfigDict()
    config.seed = 0  # of initial weights, noise, augmentation and the order of the images
    config.data = _data()
    config.tokenizer = _tokenizer()
    config.text_encoder = _text_encoder()
    config.image_encoder = _image_encoder()
    config.generator = _generator()
    config.discriminator = _discriminator()
    config.loss = _loss()
    config.damsm = _damsm()
    config.train = _train()
    config.eval = _eval()
    config.log = _log()
    return config.lock()


def config_from_dict(values: dict[str, Any]) -> ConfigDict:
    """The config of nested values, as `to_dict` returns them; missing ones have their default.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: a key or value is not of this version.
    """
    config = default_config()
    config.update(values)
    return config


def set_dataset(config: ConfigDict, name: str) -> ConfigDict:
    """Sets the data set of a config, the NAME in `config.py:NAME`, and returns the config.

    Args:
      config: changed in place.
      name: "toy_cars", "birds" or the name of a set that `ssagan_jax.prepare` wrote.
    """
    config.data.name = name
    # The toy cars' captions say left or right; the reference flips all its data sets.
    config.data.random_flip = name != "toy_cars"
    return config


def _data() -> ConfigDict:
    data = ConfigDict()
    data.name = "toy_cars"  # toy_cars (generated), birds (AttnGAN layout) or a prepared set
    data.dir = ""  # folder of the birds; unused by the others
    data.prepared_dir = ""  # folder of prepared sets; empty: that of TFDS (TFDS_DATA_DIR)
    data.image_size = 256  # height and width in pixels: 4 times a power of two
    data.max_words = 18  # longest caption in words or word pieces; the rest is cut off
    data.random_flip = True  # mirror training images at random (off if captions say left or right)
    data.bad_images = "error"  # images that cannot be decoded: "error" stops, "skip" skips them
    data.cache_mb = 4096  # decoded images of a split in memory, in MiB
    data.cache_disk_mb = 65536  # largest file for a split above cache_mb, in MiB; 0: no file
    return data


def _tokenizer() -> ConfigDict:
    tokenizer = ConfigDict()
    tokenizer.kind = "words"  # "words" of the training captions, or "wordpiece" (BERT)
    tokenizer.vocab_size = 30_000  # most entries to learn from the captions
    tokenizer.pretrained = ""  # Hugging Face name or folder of a wordpiece; empty: learn one
    return tokenizer


def _text_encoder() -> ConfigDict:
    text = ConfigDict()
    text.name = "lstm"  # "lstm" or "bert"
    text.embedding_dim = 256  # size of word and sentence embeddings
    text.dropout = 0.5  # lstm: of the word vectors
    text.word_dim = 300  # lstm: size of the word vectors
    text.hidden_size = 256  # bert: width (256 in the paper, 768 in BERT-base)
    text.num_layers = 12  # bert
    text.num_heads = 8  # bert: must divide hidden_size
    text.intermediate_size = 1024  # bert: hidden width of the feed-forward layers
    text.bert_dropout = 0.1  # bert: of hidden states and attention
    text.vocab_size = 0  # bert: rows of the embedding table; 0: size of the vocabulary
    text.max_positions = 512  # bert: rows of the position table
    text.type_vocab_size = 2  # bert: rows of the token type table
    text.layer_norm_eps = 1e-12  # bert
    text.hidden_act = "gelu"  # bert: "gelu", "gelu_new" or "relu"
    text.pooling = "cls"  # bert: sentence embedding from the first token ("cls") or the "mean"
    text.pretrained = ""  # bert: Hugging Face name or folder; its sizes replace those above
    return text


def _image_encoder() -> ConfigDict:
    image = ConfigDict()
    image.name = "cnn"  # "cnn", from scratch, or "inception_v3" (the paper), which needs `weights`
    image.channels = 32  # cnn: width of the first layer
    image.statistics = "kept"  # inception_v3: of its batch norms; "batch": per batch (reference)
    image.weights = ""  # inception_v3: torchvision's file (.pth or .safetensors)
    return image


def _generator() -> ConfigDict:
    generator = ConfigDict()
    generator.noise_dim = 100  # size of the noise vector
    generator.channels = 64  # width of the last block; the first ones have 8 times as many
    generator.ssacn_blocks = 7  # semantic-spatial aware blocks from 4 x 4 up; the others are plain
    generator.mask_channels = 100  # hidden width of the mask predictors
    generator.modulation = "reference"  # (1 + m g) x + m b; "paper": m (g x + b), eq. 3
    generator.upsampling = "nearest"  # of features (reference); "bilinear" (the paper)
    generator.learning_rate = 1e-4
    return generator


def _discriminator() -> ConfigDict:
    discriminator = ConfigDict()
    discriminator.channels = 64  # width of the first convolution
    discriminator.learning_rate = 4e-4
    discriminator.updates = 1  # 1: all terms of eq. 6 at once; 2: hinge, then MA-GP (reference)
    return discriminator


def _loss() -> ConfigDict:
    loss = ConfigDict()
    loss.damsm_weight = 0.1  # lambda_DA, of DAMSM in the generator's loss (eq. 5)
    loss.magp_weight = 2.0  # lambda_MA (eq. 6)
    loss.magp_power = 6.0  # p (eq. 6)
    loss.magp_norm = "joint"  # norm of both gradients together (reference); "sum" (eq. 6)
    loss.mismatched = "roll"  # the next caption, and the first one for the last image; "shift":
    # no caption for the last image (reference)
    loss.gamma1 = 5.0  # sharpness of the attention over regions
    loss.gamma2 = 5.0  # sharpness over words
    loss.gamma3 = 10.0  # sharpness of the contrast between captions (eq. 1)
    return loss


def _damsm() -> ConfigDict:
    damsm = ConfigDict()
    damsm.epochs = 200  # epochs of stage 1, which trains both encoders by DAMSM
    damsm.steps = 0  # steps of stage 1 instead of epochs; 0: epochs
    damsm.learning_rate = 2e-3  # peak; decays by a cosine to train.encoder_learning_rate
    damsm.warmup_steps = 100  # in which the learning rate rises from 0
    damsm.b1 = 0.5  # Adam
    damsm.b2 = 0.999  # Adam
    damsm.clip_norm = 0.25  # largest norm of the gradient in stage 1
    damsm.checkpoint = ""  # work folder whose encoders and tokenizer replace stage 1
    return damsm


def _train() -> ConfigDict:
    train = ConfigDict()
    train.batch_size = 16  # images per step over all devices
    train.epochs = 150  # epochs of stage 2, which trains the GAN
    train.steps = 0  # steps of stage 2 instead of epochs; 0: epochs
    train.b1 = 0.0  # Adam of generator, discriminator and encoders
    train.b2 = 0.9
    train.encoder_learning_rate = 4e-5  # of the encoders in stage 2
    train.encoders = "trained"  # in stage 2: "trained" by DAMSM, or "frozen"
    train.checkpoint = ""  # work folder to fine-tune: its networks and tokenizer, no stage 1
    train.ema_decay = 0.0  # if above 0, images are generated with an EMA of the generator's weights
    train.max_nonfinite_steps = 10  # steps in a row with NaN or infinity before training aborts
    train.remat = False  # recompute blocks in the backward pass: less memory, more time
    train.compute_dtype = "float32"  # of activations, or "bfloat16" (parameters, batch statistics
    # and losses stay float32)
    train.grad_accumulation_steps = 1  # microbatches per step and device
    return train


def _eval() -> ConfigDict:
    evaluation = ConfigDict()
    evaluation.every_epochs = 0  # epochs of stage 2 between scores; 0: only at the end
    evaluation.num = 0  # generated images to score; 0: one per validation image
    evaluation.inception_weights = ""  # file for IS, FID, KID, precision and recall; "download":
    # the published file; empty: that file if it is in the cache, else none of these scores
    evaluation.inception_variant = "fid"  # of the file; "torchvision" is added to the scores' names
    evaluation.splits = 10  # of the Inception Score
    evaluation.nearest = True  # find the nearest training image of each generated one
    evaluation.batch_size = 64  # images at a time over all devices
    return evaluation


def _log() -> ConfigDict:
    log = ConfigDict()
    log.scalars_every = 50  # steps between scalars
    log.sample_grid_every = 1000  # steps of stage 2 between sample grids
    log.sample_grid_rows = 8  # captions in a sample grid of a new run
    log.checkpoint_every = 1000  # steps between checkpoints
    log.keep_checkpoints = 3  # number of latest checkpoints to keep
    log.profile = False  # trace steps 10 to 15 of each stage, for xprof (TensorBoard's profiler)
    return log


def flatten(config: ConfigDict) -> dict[str, Any]:
    """The values by dotted key."""
    return {
        f"{section}.{key}" if key else section: value
        for section, values in config.to_dict().items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def warm_start_dir(config: ConfigDict) -> str:
    """The work folder whose weights and tokenizer a run starts from; empty for none."""
    return config.train.checkpoint or config.damsm.checkpoint


def stage_steps(section: ConfigDict, steps_per_epoch: int) -> int:
    """Steps of a stage, by the `steps` or else the `epochs` of `config.damsm` or `config.train`."""
    return section.steps or section.epochs * steps_per_epoch


# Keys that may change when a run is resumed, besides those of `eval` and `log`.
_FREE_KEYS = {
    "train.epochs",
    "train.steps",
    "train.max_nonfinite_steps",
    "train.remat",
    "train.compute_dtype",
    "train.grad_accumulation_steps",
    "data.dir",
    "data.prepared_dir",
    "data.cache_mb",
    "data.cache_disk_mb",
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
