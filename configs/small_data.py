"""A model with a bi-LSTM for some hundred captioned photos, at 128 pixels.

python -m ssagan_jax.main --config=configs/small_data.py:NAME, for data prepared with --name=NAME
"""

from ml_collections import ConfigDict

from ssagan_jax.config import default_config, set_dataset
from ssagan_jax.config.recipes import set_small_data_recipe


def get_config(variant: str = "toy_cars") -> ConfigDict:
    config = set_small_data_recipe(set_dataset(default_config(), variant))
    config.data.image_size = 128
    config.generator.channels = 32
    config.discriminator.channels = 32
    config.damsm.steps = 1600
    config.train.steps = 20_000
    config.log.checkpoint_every = 500
    config.eval.best = "encoder_frechet"
    config.eval.every_epochs = 20
    return config
