"""Four fake devices for every test, and a tiny config with a batch that fits it."""

import os

# Before jax looks at its devices. Only CPUs are multiplied; an accelerator's count stays.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from ssagan_jax.configuration import default_config  # noqa: E402
from ssagan_jax.models.vocabulary import Vocabulary  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


def make_tiny_config():
    """The default config at the smallest sizes that still use every part; not locked."""
    config = default_config().unlock()
    config.data.image_size = 32
    config.data.max_words = 6
    config.data.random_flip = False
    config.text_encoder.embedding_dim = 16
    config.text_encoder.word_dim = 8
    config.image_encoder.channels = 4
    config.generator.noise_dim = 8
    config.generator.channels = 4
    config.generator.mask_channels = 4
    config.discriminator.channels = 4
    config.train.batch_size = 8
    return config


@pytest.fixture(scope="session")
def tiny_config():
    """The tiny config, locked and shared: copy it with `config.copy_and_resolve_references()`."""
    return make_tiny_config().lock()


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(size=20)


def make_batch(config, vocab_size=20, seed=0):
    """A global batch of noise pictures and captions of 1 to max_words words; two share a class."""
    rng = np.random.default_rng(seed)
    rows, words, size = config.train.batch_size, config.data.max_words, config.data.image_size
    lengths = np.resize([words, 1, words - 2, 2], rows)
    mask = np.arange(words) < lengths[:, None]
    classes = np.arange(rows, dtype=np.int32)
    classes[-1] = 0
    return {
        "image": rng.integers(0, 256, (rows, size, size, 3), np.uint8),
        "tokens": np.where(mask, rng.integers(1, vocab_size, mask.shape), 0).astype(np.int32),
        "mask": mask,
        "class_id": classes,
    }


@pytest.fixture(scope="session")
def batch(tiny_config):
    return make_batch(tiny_config)
