"""Recipes: values of config keys that belong together."""

from ml_collections import ConfigDict


def set_small_data_recipe(config: ConfigDict) -> ConfigDict:
    """Sets the keys by which few images and few steps give good ones, and returns the config.

    Each is off in the paper's configs; docs/training.md says what it does.

    Args:
      config: changed in place.
    """
    # Encoders that tell more than colors apart. They keep still while the GAN trains.
    config.image_encoder.pooling = "flatten"
    config.text_encoder.normalize = True
    config.damsm.batch_size = 4 * config.train.batch_size
    config.loss.damsm_words = False
    config.train.encoders = "frozen"
    # DAMSM leads the generator to the captions first, then leaves it to the discriminator.
    config.loss.damsm_weight_start = 0.5
    config.loss.damsm_weight = 0.2
    config.loss.damsm_decay_steps = 600
    # The discriminator tells captions of similar images apart, not only of any two.
    config.loss.mismatched = "nearest"
    config.loss.num_mismatched = 6
    # Networks that use their residual branches from the start, and learn fast.
    config.generator.residual_gain = 1.0
    config.discriminator.residual_gain = 1.0
    config.generator.upsampling = "bilinear"
    config.generator.learning_rate = 1e-3
    config.discriminator.learning_rate = 1e-3
    config.train.ema_half_life = 5000
    return config
