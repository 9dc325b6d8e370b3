"""A GAN step on noise images, without data set, work folder or loop: what the benchmarks time."""

import dataclasses
import functools
import math
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.config import default_config
from ssagan_jax.models.vocabulary import Vocabulary
from ssagan_jax.steps.gan_step import gan_step
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.pmap import BATCH_AXIS, PmapStep, replicate
from ssagan_jax.steps.state import StepContext, begin_gan_stage, initial_state

VOCABULARY = 5000


def make_config(image_size: int, channels: int, batch_size: int, dtype: str) -> ConfigDict:
    """The paper's bi-LSTM model with a small image encoder, at these sizes."""
    config = default_config()
    config.data.image_size, config.train.batch_size = image_size, batch_size
    config.generator.channels = config.discriminator.channels = channels
    config.image_encoder.channels = max(8, channels // 2)
    config.train.compute_dtype = dtype
    return config


def noise_batch(config: ConfigDict) -> dict[str, np.ndarray]:
    """A batch of noise images, and of captions of every length."""
    rng = np.random.default_rng(0)
    rows, words, size = config.train.batch_size, config.data.max_words, config.data.image_size
    mask = np.arange(words) < np.resize(np.arange(words, 0, -1), rows)[:, None]
    return {
        "image": rng.integers(0, 256, (rows, size, size, 3), np.uint8),
        "tokens": np.where(mask, rng.integers(1, VOCABULARY, mask.shape), 0).astype(np.int32),
        "mask": mask,
        "class_id": np.arange(rows, dtype=np.int32),
    }


def step_function(config: ConfigDict, axis_name: str | None = BATCH_AXIS) -> Any:
    """The step (state, batch) -> (state, metrics)."""
    networks = build_networks(config, Vocabulary(VOCABULARY), axis_name)
    return functools.partial(gan_step, StepContext(config, networks, build_optimizers(config, 1)))


def first_state(config: ConfigDict) -> Any:
    """A state at the start of stage 2 on the host, with normal weights.

    Drawn by numpy: to compile the networks' own initialization takes minutes.
    """
    optimizers, rng = build_optimizers(config, 1), np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: begin_gan_stage(initial_state(config, Vocabulary(VOCABULARY)), optimizers)
    )

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        if "_opt" not in name and len(leaf.shape) > 1:
            bound = math.prod(leaf.shape[:-1]) ** -0.5
            return rng.normal(0, bound, leaf.shape).astype(leaf.dtype)
        one = "_opt" not in name and name.endswith(("['scale']", "['var']"))
        return np.full(leaf.shape, one, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@dataclasses.dataclass
class DirectStep:
    """A compiled step with its state and batch; `compile_seconds` includes tracing."""

    config: ConfigDict
    state: Any = None
    compile_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.state, self.batch = replicate(first_state(self.config)), noise_batch(self.config)
        self.step = PmapStep(step_function(self.config))
        start = time.perf_counter()
        self.compiled = self.step.compile(self.state, self.batch)
        self.compile_seconds = time.perf_counter() - start

    def run(self, steps: int) -> tuple[float, float]:
        """Takes steps; returns wall seconds and CPU seconds of this process."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.state, metrics, _ = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))
        return time.perf_counter() - wall, time.process_time() - cpu
