"""A work folder of a tiny model with random weights, made without training."""

import copy
import zlib

import jax
import numpy as np

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.evaluation.scores import Score, write_scores
from ssagan_jax.fixed_samples import FixedSamples
from ssagan_jax.steps.state import abstract_state
from ssagan_jax.workdir import Workdir

CAPTIONS = ["a red pickup truck on the beach", "a blue car in the city"]
STEP = 30


def paint(model, captions, num=2, seed=5):
    """Images i64[captions, num, S, S, 3]."""
    painted = model.paint(captions, num, seed)
    return np.array([[np.asarray(image) for image in row] for row in painted], int)


def random_leaf(path, leaf):
    """Numbers that neither vanish nor explode in the networks."""
    rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
    if not np.issubdtype(leaf.dtype, np.floating):
        return np.zeros(leaf.shape, leaf.dtype)
    if "'var'" in jax.tree_util.keystr(path):
        return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
    fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
    return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(leaf.dtype)


def make_run(folder, tiny_config, **values):
    """Makes the work folder; `values` are config keys with "__" for a dot."""
    config = copy.deepcopy(tiny_config)
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in values.items()})
    tokenizer = learn_tokenizer(config.tokenizer.kind, CAPTIONS, 200)
    state = jax.tree_util.tree_map_with_path(random_leaf, abstract_state(config, tokenizer))
    workdir = Workdir(folder)
    workdir.write_config(config)
    workdir.write_tokenizer(tokenizer)
    workdir.write_schedule(Schedule(steps_per_epoch=10, damsm_steps=10, total_steps=40))
    workdir.write_dataset_counts({"train": {"images": 80, "captions": 160}})
    noise, size = np.zeros((2, config.generator.noise_dim), np.float32), config.data.image_size
    real = np.zeros((2, size, size, 3), np.uint8)
    workdir.write_fixed_samples(FixedSamples(CAPTIONS, noise, real))
    scores = [
        Score(STEP, 2.0, "gan", "validation", name, value, None, {"seed": 5} | recipe)
        for name, value, recipe in (
            ("diversity", 0.25, {"features": "a|b"}),
            ("attributes/color", 0.5, {"num_captions": 7}),
        )
    ]
    write_scores(workdir, scores)
    checkpoints = Checkpoints(workdir.checkpoints, 2, tokenizer.digest)
    for step in (10, STEP):
        checkpoints.save(state.replace(step=np.int32(step)), None)
    checkpoints.close()
    return workdir
