"""Both stages' steps in one of several processes, for test_processes.py: opens a run as training
does, takes steps from a fixed state in float32 and in float64, and keeps what comes out.

python tests/several_processes.py WORKDIR OUT.npz CONFIG_JSON [HOST:PORT COUNT INDEX]
"""

import json
import sys

import jax
import numpy as np
from trees import awake, doubled

from ssagan_jax.configuration import default_config
from ssagan_jax.run import open_run
from ssagan_jax.training import processes, steps
from ssagan_jax.training.parallel import AXIS, ParallelStep, replicated
from ssagan_jax.training.state import build_networks


def trained(run, state):
    """State, metrics and note after two steps of each stage in float64, by their paths."""
    with jax.enable_x64(True):
        steps.to_unit_range = lambda pixels: pixels.astype(float) / 127.5 - 1
        networks = build_networks(run.config, run.tokenizer.vocabulary, AXIS)
        both = steps.Steps(run.config, networks, run.optimizers, AXIS)
        state = replicated(doubled(state))
        for step in (both.encoders, both.gan):
            step_fn = ParallelStep(step)
            for _ in range(2):
                state, metrics, note = step_fn(state, next(run.batches), jax.process_index() + 3)
        leaves = jax.tree_util.tree_leaves_with_path((state, metrics, {"note": note}))
        return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def main(workdir, out, values, *cluster):
    if cluster:
        processes.begin(cluster[0], int(cluster[1]), int(cluster[2]))
    config = default_config()
    config.update_from_flattened_dict(json.loads(values))
    run, state = open_run(config, workdir)
    state = jax.tree.map(np.asarray, state)
    state = state.replace(
        encoders=awake(state.encoders, 1),
        generator=awake(state.generator, 2),
        discriminator=awake(state.discriminator, 3),
    )
    kept = trained(run, state)
    scores = run.score(state.replace(step=np.asarray(run.total_steps, np.int32)))
    kept |= {f"score/{score.name}": np.asarray(score.value) for score in scores}
    np.savez(out, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
