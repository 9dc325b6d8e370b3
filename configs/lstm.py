"""The paper's model with a bi-LSTM text encoder.

python -m ssagan_jax.main --config=configs/lstm.py
python -m ssagan_jax.main --config=configs/lstm.py:birds --config.data.dir=DIR
python -m ssagan_jax.main --config=configs/lstm.py:NAME, for data prepared with --name=NAME
"""

from ml_collections import ConfigDict

from ssagan_jax.config import default_config, set_dataset


def get_config(variant: str = "toy_cars") -> ConfigDict:
    return set_dataset(default_config(), variant)
