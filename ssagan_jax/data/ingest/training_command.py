"""The command that trains on a data set, with the keys that its size asks for."""

import shlex

from ssagan_jax.config import default_config
from ssagan_jax.config.validation import MIN_IMAGES
from ssagan_jax.data.ingest.scanned_set import PrepareRequest

_LARGE = 10_000  # Training pictures from which on the paper's model is recommended.
_SCORED_EPOCHS = 20  # config.eval.every_epochs of configs/small_data.py,
_SCORED_STEPS = 500  # and the fewest steps between scores that make sense.


def training_command(request: PrepareRequest, train: int, validation: int) -> str:
    """The command that trains on so many training and validation pictures."""
    config, large = default_config(), train >= _LARGE
    recipe = "bert" if large else "small_data"
    words = ["python", "-m", "ssagan_jax.main", f"--config={recipe}:{request.name}"]
    if request.image_size != config.data.image_size:
        words.append(f"--config.data.image_size={request.image_size}")
    if request.prepared_dir:
        words.append(f"--config.data.prepared_dir={request.prepared_dir}")
    batch_size = config.train.batch_size
    if 0 < train < batch_size:
        batch_size = train
        words += [f"--config.train.batch_size={train}", "--config.damsm.batch_size=0"]
    if not large and 0 < validation < MIN_IMAGES:
        words.append("--config.eval.best=")
    elif not large and 0 < train * _SCORED_EPOCHS < _SCORED_STEPS * batch_size:
        epochs = -(-_SCORED_STEPS * batch_size // train)
        words.append(f"--config.eval.every_epochs={epochs}")
    return shlex.join(words)
