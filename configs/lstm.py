"""The paper's model with a bi-LSTM text encoder.

python -m ssagan_jax.main --config=configs/lstm.py
python -m ssagan_jax.main --config=configs/lstm.py:birds --config.data.dir=DIR
python -m ssagan_jax.main --config=configs/lstm.py:NAME, as ssagan_jax.prepare named your data
"""

from ml_collections import ConfigDict

from ssagan_jax.configuration import default_config, use_data


def get_config(variant: str = "toy_cars") -> ConfigDict:
    return use_data(default_config(), variant)
