"""A small model of the toy cars that trains in minutes on the CPU of a laptop.

python -m ssagan_jax.main --config=configs/quickstart.py
python -m ssagan_jax.main --config=configs/quickstart.py:NAME, for data prepared with --name=NAME
"""

from ml_collections import ConfigDict

from ssagan_jax.config import default_config, set_dataset
from ssagan_jax.config.recipes import set_drawings_recipe, set_small_data_recipe


def get_config(variant: str = "toy_cars") -> ConfigDict:
    config = set_small_data_recipe(set_dataset(default_config(), variant))
    config.damsm.steps, config.train.steps, config.log.sample_grid_every = 1600, 5000, 250
    if config.data.name == "toy_cars":
        set_drawings_recipe(config)
        config.damsm.steps, config.train.steps, config.log.sample_grid_every = 600, 1400, 100
    config.data.image_size = 64
    config.image_encoder.channels = 16
    config.generator.channels = 16
    config.generator.mask_channels = 16
    config.discriminator.channels = 16
    config.log.checkpoint_every = 200
    return config
