"""Every hyperparameter: its default and its meaning; `config_validation` has the bounds.

Defaults are those of "Text to Image Generation with Semantic-Spatial Aware GAN and BERT" with its
bi-LSTM; `configs/*.py` hold what differs.
"""

from typing import Any

from ml_collections import ConfigDict

from ssagan_jax.errors import InputError


class ConfigError(InputError):
    """A configuration that cannot work; the message names the key, its value and what may stand."""


def default_config() -> ConfigDict:
    """The paper's bi-LSTM model on the embedded data set, 256 pixels, locked against new keys."""
    config = ConfigDict()
    config.seed = 0  # of initial weights, noise, augmentation and the order of the pictures
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
    """The config of nested values, as `to_dict` gave them; those that it lacks have their default.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: they are not of this version.
    """
    config = default_config()
    config.update(values)
    return config


def set_dataset(config: ConfigDict, name: str) -> ConfigDict:
    """The config for "toy_cars", "birds" or data that `ssagan_jax.prepare` named: `config.py:name`.

    Raises:
      ConfigError: no data can have that name.
    """
    config.data.name = name
    # The toy cars' captions say which way the car faces; the reference flips everything else.
    config.data.random_flip = name != "toy_cars"
    return config


def _data() -> ConfigDict:
    data = ConfigDict()
    data.name = "toy_cars"  # toy_cars (drawn here), birds (AttnGAN folders) or prepared data
    data.dir = ""  # the folder of birds; the others need none
    data.prepared_dir = ""  # where prepared data is kept; empty: TFDS's folder (TFDS_DATA_DIR)
    data.image_size = 256  # height and width in pixels: 4 times a power of two
    data.max_words = 18  # words (or word pieces) of a caption that the encoders see
    data.random_flip = True  # mirror half of the training pictures (off where captions say left)
    data.bad_images = "error"  # a picture that cannot be decoded: "error" stops, "skip" counts it
    data.cache_mb = 4096  # decoded pictures of a split kept in memory, in MiB
    data.cache_disk_mb = 65536  # most of a file for a split that passes cache_mb; 0: no file
    return data


def _tokenizer() -> ConfigDict:
    tokenizer = ConfigDict()
    tokenizer.kind = "words"  # "words" of the training captions, or "wordpiece" (BERT)
    tokenizer.vocab_size = 30_000  # at most so many entries are learned from the captions
    tokenizer.pretrained = ""  # wordpiece of a Hugging Face name or folder instead of learning one
    return tokenizer


def _text_encoder() -> ConfigDict:
    text = ConfigDict()
    text.name = "lstm"  # "lstm" or "bert"
    text.embedding_dim = 256  # size of word and sentence embeddings
    text.dropout = 0.5  # lstm: of the word vectors
    text.word_dim = 300  # lstm: size of the word vectors
    text.hidden_size = 256  # bert: width (the paper's; BERT-base has 768)
    text.num_layers = 12  # bert
    text.num_heads = 8  # bert: must divide hidden_size
    text.intermediate_size = 1024  # bert: hidden width of the feed-forward layers
    text.bert_dropout = 0.1  # bert: of hidden states and attention
    text.vocab_size = 0  # bert: rows of the embedding table; 0: as many as the tokenizer knows
    text.max_positions = 512  # bert: rows of the position table
    text.type_vocab_size = 2  # bert: rows of the token type table
    text.layer_norm_eps = 1e-12  # bert
    text.hidden_act = "gelu"  # bert: "gelu", "gelu_new" or "relu"
    text.pooling = "cls"  # bert: sentence from the pooled first token ("cls") or the "mean" of all
    text.pretrained = ""  # bert: a Hugging Face name or folder; its sizes replace those above
    return text


def _image_encoder() -> ConfigDict:
    image = ConfigDict()
    image.name = "cnn"  # "cnn" learns from scratch; "inception_v3" needs `weights` (the paper)
    image.channels = 32  # cnn: width of the first layer
    image.statistics = "kept"  # inception_v3: of its norms; "batch": of each batch (reference)
    image.weights = ""  # inception_v3: torchvision's file (.pth or .safetensors)
    return image


def _generator() -> ConfigDict:
    generator = ConfigDict()
    generator.noise_dim = 100  # size of the noise vector
    generator.channels = 64  # width of the last block; the first ones are 8 times as wide
    generator.ssacn_blocks = 7  # semantic-spatial aware blocks from 4 x 4 up; those above are plain
    generator.mask_channels = 100  # hidden width of the mask predictors
    generator.modulation = "reference"  # (1 + m g) x + m b; "paper": m (g x + b), eq. 3
    generator.upsampling = "nearest"  # of features (reference); "bilinear": the paper's text
    generator.learning_rate = 1e-4
    return generator


def _discriminator() -> ConfigDict:
    discriminator = ConfigDict()
    discriminator.channels = 64  # width of the first convolution
    discriminator.learning_rate = 4e-4
    discriminator.updates = 1  # 1: the whole of eq. 6 at once; 2: hinge, then MA-GP (reference)
    return discriminator


def _loss() -> ConfigDict:
    loss = ConfigDict()
    loss.damsm_weight = 0.1  # lambda_DA, of DAMSM in the generator's loss (eq. 5)
    loss.magp_weight = 2.0  # lambda_MA (eq. 6)
    loss.magp_power = 6.0  # p (eq. 6)
    loss.magp_norm = "joint"  # norm of both gradients together (reference); "sum": eq. 6
    loss.mismatched = "roll"  # the next caption, for the last picture the first; "shift": for the
    # last picture none (reference)
    loss.gamma1 = 5.0  # sharpness of the attention over regions
    loss.gamma2 = 5.0  # sharpness over words
    loss.gamma3 = 10.0  # sharpness of the contrast between captions (eq. 1)
    return loss


def _damsm() -> ConfigDict:
    damsm = ConfigDict()
    damsm.epochs = 200  # stage 1: epochs in which both encoders learn by DAMSM alone
    damsm.steps = 0  # if above 0, stage 1 lasts so many steps instead
    damsm.learning_rate = 2e-3  # at its highest; falls along a cosine to train.encoder_...
    damsm.warmup_steps = 100  # in which it rises from 0
    damsm.b1 = 0.5  # Adam
    damsm.b2 = 0.999  # Adam
    damsm.clip_norm = 0.25  # stage 1: the gradient's norm is cut to this
    damsm.checkpoint = ""  # a work folder whose trained encoders (and tokenizer) skip stage 1
    return damsm


def _train() -> ConfigDict:
    train = ConfigDict()
    train.batch_size = 16  # pictures a step over all devices
    train.epochs = 150  # stage 2: epochs of GAN training
    train.steps = 0  # if above 0, stage 2 lasts so many steps instead
    train.b1 = 0.0  # Adam of generator, discriminator and encoders
    train.b2 = 0.9
    train.encoder_learning_rate = 4e-5  # of the encoders beside the GAN
    train.encoders = "trained"  # "trained" on by DAMSM beside the GAN, or "frozen"
    train.checkpoint = ""  # a work folder whose networks and tokenizer it starts from; no stage 1
    train.ema_decay = 0.0  # if above 0, sheets and samples use averaged generator weights
    train.max_nonfinite_steps = 10  # steps in a row with NaN or infinity after which the run ends
    train.remat = False  # blocks are computed again for their gradient: less memory, more time
    train.compute_dtype = "float32"  # of activations, or "bfloat16" (parameters, batch statistics
    # and losses stay float32)
    train.grad_accumulation_steps = 1  # parts that each device's rows of a step are worked off in
    return train


def _eval() -> ConfigDict:
    evaluation = ConfigDict()
    evaluation.every_epochs = 0  # of the GAN's between scores; 0: at the end alone
    evaluation.num = 0  # generated pictures that are scored; 0: one for each validation picture
    evaluation.inception_weights = ""  # file for IS, FID, KID, precision and recall; "download":
    # the published one; empty: the same where it is in the cache, else no such scores
    evaluation.inception_variant = "fid"  # or "torchvision": its layout, and scores named after it
    evaluation.splits = 10  # of the Inception Score
    evaluation.nearest = True  # compare with every training picture
    evaluation.batch_size = 64  # pictures at a time over all devices
    return evaluation


def _log() -> ConfigDict:
    log = ConfigDict()
    log.scalars_every = 50  # steps between scalars
    log.sample_grid_every = 1000  # steps between sample sheets
    log.sample_grid_rows = 8  # captions on a sheet
    log.checkpoint_every = 1000  # steps between checkpoints
    log.keep_checkpoints = 3  # the last so many are kept
    log.profile = False  # trace steps 10 to 15 of each stage, for xprof (TensorBoard's profiler)
    return log


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Values by dotted key."""
    return {
        f"{section}.{key}" if key else section: value
        for section, values in config.to_dict().items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def warm_start_dir(config: ConfigDict) -> str:
    """The work folder that a run takes weights and tokenizer from; empty for none."""
    return config.train.checkpoint or config.damsm.checkpoint


def stage_steps(section: ConfigDict, steps_per_epoch: int) -> int:
    """Steps of a stage (`config.damsm` or `config.train`): its steps, or else its epochs."""
    return section.steps or section.epochs * steps_per_epoch


# What may change between two runs in one work folder: how long, how often and where from.
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
    """Lines "key: saved -> current" for keys that make two configs different runs."""
    before, after = flatten(saved), flatten(current)
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and key not in _FREE_KEYS
        and not key.startswith(("eval.", "log."))
    ]
