"""Both stages' steps in one of several processes, for test_distributed.py: opens a run as
training does, runs steps from a fixed state in float64, scores it, and saves the results.

python tests/distributed_program.py WORKDIR OUT.npz CONFIG_JSON [HOST:PORT COUNT INDEX]
"""

import functools
import json
import sys

import jax
import numpy as np
from trees import randomize_zeros, to_float64

from ssagan_jax import distributed
from ssagan_jax.config import default_config
from ssagan_jax.steps import damsm_step, gan_step
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.pmap import BATCH_AXIS, PmapStep, crop_on_devices, replicate
from ssagan_jax.steps.state import StepContext
from ssagan_jax.training.run import open_run
from ssagan_jax.training.workdir_lock import WorkdirLock
from ssagan_jax.workdir import Workdir


def trained(run, state):
    """State, metrics and stop signal after two steps of each stage in float64, by their paths."""
    with jax.enable_x64(True):
        for module in (damsm_step, gan_step):
            module.normalize_images = lambda pixels: pixels.astype(float) / 127.5 - 1
        networks = build_networks(run.config, run.tokenizer.vocabulary, BATCH_AXIS)
        context = StepContext(run.config, networks, run.optimizers)
        state = replicate(to_float64(state))
        crop = crop_on_devices(run.device_images, run.config.data.image_size)
        for step in (damsm_step.damsm_step, gan_step.gan_step):
            step_fn = PmapStep(functools.partial(step, context), crop)
            for _ in range(2):
                state, metrics, signal = step_fn(state, next(run.batches), jax.process_index() + 3)
        leaves = jax.tree_util.tree_leaves_with_path((state, metrics, {"stop_signal": signal}))
        return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def main(workdir, out, values, *cluster):
    if cluster:
        distributed.initialize(cluster[0], int(cluster[1]), int(cluster[2]))
    config = default_config()
    config.update_from_flattened_dict(json.loads(values))
    run, state = open_run(config, workdir, WorkdirLock(Workdir(workdir).lock))
    state = jax.tree.map(np.asarray, state)
    state = state.replace(
        encoders=randomize_zeros(state.encoders, 1),
        generator=randomize_zeros(state.generator, 2),
        discriminator=randomize_zeros(state.discriminator, 3),
    )
    kept = trained(run, state)
    scores = run.score(state.replace(step=np.asarray(run.schedule.total_steps, np.int32)))
    kept |= {f"score/{score.name}": np.asarray(score.value) for score in scores}
    np.savez(out, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
