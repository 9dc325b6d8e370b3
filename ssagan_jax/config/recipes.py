"""Recipes: values of config keys that belong together."""

from ml_collections import ConfigDict


def set_small_data_recipe(config: ConfigDict) -> ConfigDict:
    """Sets the keys by which few photos and few steps give good images, and returns the config.

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
    # DAMSM leads the generator to the captions first, then leaves it to the discriminator. With
    # more weight the generator deceives the encoders instead of painting what resembles a photo.
    config.loss.damsm_weight_start = 0.1
    config.loss.damsm_weight = 0.05
    config.loss.damsm_decay_steps = 600
    config.loss.num_mismatched = 3
    # The discriminator memorizes few photos later, and sees when images are alike.
    config.augment.policy = "translation,cutout"
    config.discriminator.minibatch_stddev = True
    # Networks that use their residual branches from the start, and learn fast, the discriminator
    # faster.
    config.generator.residual_gain = 1.0
    config.discriminator.residual_gain = 1.0
    config.generator.upsampling = "bilinear"
    config.generator.learning_rate = 2e-4
    config.discriminator.learning_rate = 8e-4
    config.train.ema_half_life = 5000
    return config


def set_drawings_recipe(config: ConfigDict) -> ConfigDict:
    """Changes `set_small_data_recipe` for simple drawings, such as the toy cars.

    Encoders can tell apart all that differs in them, so these may lead.

    Args:
      config: changed in place, and returned.
    """
    config.augment.policy = ""
    config.loss.damsm_weight_start = 0.5
    config.loss.damsm_decay_steps = 1000
    config.loss.gamma3 = 20.0
    # The discriminator tells captions of similar images apart, not only of any two, by the inner
    # product alone: concatenated, the sentence works against it.
    config.loss.mismatched = "nearest"
    config.loss.num_mismatched = 6
    config.loss.sentence_queue = 240
    config.loss.contrastive_weight = 4.0
    config.loss.contrastive_gamma = 20.0
    config.loss.contrastive_captions = 5
    config.discriminator.projection_channels = 64
    config.discriminator.concat_sentence = False
    # The noise changes what a caption leaves open.
    config.loss.diversity_weight = 0.3
    config.generator.learning_rate = 1e-3
    config.discriminator.learning_rate = 1e-3
    return config
