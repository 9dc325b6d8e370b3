"""Four fake devices for every test, a tiny config and batch, and a table of measured values."""

import gc
import importlib.metadata
import os
from pathlib import Path

# XLA reads these when jax starts its backend. Tests compile far more than they compute, hence the
# second and the third. XLA aborts at an unknown flag, and the third one is not in all versions.
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

# What several tests or processes compile is compiled once.
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
} | os.environ

# No weights or statistics from the cache of this machine: a file cannot contain any.
os.environ["SSAGAN_CACHE"] = os.devnull

import jax
import numpy as np
import pytest
import tiny

from ssagan_jax.config import default_config
from ssagan_jax.models.vocabulary import Vocabulary

jax.config.update("jax_numpy_rank_promotion", "raise")

# JAX traces into many objects, which Python by default searches for cycles again and again.
gc.set_threshold(100_000, 20, 50)

VOCABULARY_SIZE = 20
ROWS = pytest.StashKey[dict[tuple[str, str], tuple[float, float]]]()
HEADER = ("part", "against", "measured", "at most")
# The files that take longest, in this order. They come first, so that all processes end together.
LONGEST = ("test_cli", "test_steps", "test_distributed", "test_remat", "test_reference")
LONGEST += ("test_checkpoints", "test_bfloat16", "test_skip_nonfinite", "test_notebook")


@pytest.fixture(scope="session")
def tiny_config():
    """The default config at tiny sizes, locked and shared: change a `copy.deepcopy` of it."""
    config = default_config()
    config.update_from_flattened_dict(
        tiny.SIZES | {"data.random_flip": False, "train.batch_size": 8}
    )
    return config


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(VOCABULARY_SIZE)


@pytest.fixture(scope="session")
def make_batch():
    """(config, seed) to a global batch: noise images, and captions of every length."""

    def make(config, seed=0):
        rng = np.random.default_rng(seed)
        rows, words, size = config.train.batch_size, config.data.max_words, config.data.image_size
        mask = np.arange(words) < np.resize(np.arange(words, 0, -1), rows)[:, None]
        tokens = rng.integers(1, VOCABULARY_SIZE, mask.shape)
        return {
            "image": rng.integers(0, 256, (rows, size, size, 3), np.uint8),
            "tokens": np.where(mask, tokens, 0).astype(np.int32),
            "mask": mask,
            # The first and the last image have the same class.
            "class_id": np.arange(rows, dtype=np.int32) % (rows - 1),
        }

    return make


@pytest.fixture
def measured(request):
    """(part, against, value, bound): adds a value to the table; fails if it is above the bound.

    The table shows the largest value of each part.
    """

    def record(part, against, value, bound):
        rows = request.config.stash.setdefault(ROWS, {})
        before, _ = rows.get((part, against), (value, bound))
        rows[part, against] = (np.maximum(before, value), bound)  # Unlike max, it keeps NaN.
        assert value <= bound, f"{part}, against {against}: {value} > {bound}"

    return record


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


def pytest_sessionfinish(session):
    """Sends the table of a worker (pytest-xdist) to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        rows = session.config.stash.get(ROWS, {})
        session.config.workeroutput["measured"] = [
            (*part, *map(float, values)) for part, values in rows.items()
        ]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Merges the table of a worker; see `pytest_sessionfinish`."""
    table = node.config.stash.setdefault(ROWS, {})
    for part, against, value, bound in getattr(node, "workeroutput", {}).get("measured", []):
        before, _ = table.get((part, against), (value, bound))
        table[part, against] = (np.maximum(before, value), bound)


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
