"""The paper's model with a BERT text encoder, 256 wide with 8 heads and 12 layers.

python -m ssagan_jax.main --config=configs/bert.py
python -m ssagan_jax.main --config=configs/bert.py:birds --config.data.dir=DIR
python -m ssagan_jax.main --config=configs/bert.py:NAME, for data prepared with --name=NAME
"""

from ml_collections import ConfigDict

from ssagan_jax.config import default_config, set_dataset


def get_config(variant: str = "toy_cars") -> ConfigDict:
    config = set_dataset(default_config(), variant)
    config.text_encoder.name = "bert"
    config.tokenizer.kind = "wordpiece"
    config.damsm.learning_rate = 1e-4  # at the LSTM's 2e-3 a transformer diverges
    config.train.epochs = 50
    return config
