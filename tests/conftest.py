"""Four fake devices for every test, a tiny config and batch, and a table of what was measured."""

import importlib.metadata
import os

# XLA reads these when jax first looks for its devices. Tests compile far more than they compute,
# hence the others. XLA stops at a flag that it does not know, and the last one may not stay.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false"
        if importlib.metadata.version("jaxlib").startswith("0.10.")
        else "",
    ]
).strip()

# Neither weights nor statistics of the machine's own cache: there is nothing below a file.
os.environ["SSAGAN_CACHE"] = os.devnull

import jax
import numpy as np
import pytest

from ssagan_jax.config import default_config
from ssagan_jax.models.vocabulary import Vocabulary

jax.config.update("jax_numpy_rank_promotion", "raise")

VOCABULARY_SIZE = 20
ROWS = pytest.StashKey[dict[tuple[str, str], tuple[float, float]]]()
HEADER = ("part", "against", "measured", "at most")


@pytest.fixture(scope="session")
def tiny_config():
    """The default config at small sizes, locked and shared: change a `copy.deepcopy` of it."""
    config = default_config()
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
def vocabulary():
    return Vocabulary(VOCABULARY_SIZE)


@pytest.fixture(scope="session")
def make_batch():
    """(config, seed) to a global batch: noise for pictures, captions of every length."""

    def make(config, seed=0):
        rng = np.random.default_rng(seed)
        rows, words, size = config.train.batch_size, config.data.max_words, config.data.image_size
        mask = np.arange(words) < np.resize(np.arange(words, 0, -1), rows)[:, None]
        tokens = rng.integers(1, VOCABULARY_SIZE, mask.shape)
        return {
            "image": rng.integers(0, 256, (rows, size, size, 3), np.uint8),
            "tokens": np.where(mask, tokens, 0).astype(np.int32),
            "mask": mask,
            # The first and the last picture are of one class.
            "class_id": np.arange(rows, dtype=np.int32) % (rows - 1),
        }

    return make


@pytest.fixture
def measured(request):
    """(part, against, figure, bound): puts a figure in the table and fails where it is too large.

    Of several figures of one part the largest is shown.
    """

    def record(part, against, figure, bound):
        rows = request.config.stash.setdefault(ROWS, {})
        before, _ = rows.get((part, against), (figure, bound))
        # numpy's, which a figure that is no number gets through.
        rows[part, against] = (np.maximum(before, figure), bound)
        assert figure <= bound, f"{part}, against {against}: {figure} > {bound}"

    return record


def pytest_terminal_summary(terminalreporter):
    rows = terminalreporter.config.stash.get(ROWS, {})
    if not rows:
        return
    lines = [(*key, *(f"{value:.2g}" for value in row)) for key, row in sorted(rows.items())]
    table = [HEADER, *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("measured")
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.line("  ".join(cells).rstrip())
