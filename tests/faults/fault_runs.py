"""The training command at tiny size, and comparisons of its runs."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tiny

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.steps.state import abstract_state
from ssagan_jax.workdir import Workdir

ROOT = Path(__file__).parents[2]
TINY = tiny.SIZES | {
    # So small that round-off does not grow: Adam's first steps are as large as its rate, however
    # small the gradient, and where terms of the loss cancel, round-off decides its sign. With the
    # paper's rates runs on 1 and 2 devices were apart by 3e-5 after a GAN step, by 0.08 after 7.
    "generator.learning_rate": 1e-6,
    "discriminator.learning_rate": 1e-6,
    # With "nearest", round-off may also exchange two captions that are almost equally similar.
    "loss.mismatched": "roll",
    "train.batch_size": 8,
    "damsm.steps": 5,
    "damsm.batch_size": 0,  # As train.batch_size, so that the data position equals the step.
    "train.steps": 7,
    "eval.num": 16,
    "eval.nearest": False,
    "log.scalars_every": 1,
    "log.checkpoint_every": 2,
    "log.keep_checkpoints": 20,
    "log.sample_grid_every": 3,
    "log.sample_grid_rows": 2,
}
TIMEOUT = 1200  # seconds, also on a machine that is busy
CHECKPOINTS = [2, 4, 6, 8, 10, 12]
STEPS = 12


class Runs:
    """Starts the command; all runs share the prepared data and what was compiled."""

    def __init__(self, place):
        self.place = place

    def start(self, workdir, program=None, devices=1, limit=None, log=None, **options):
        """Starts a process, whose output `output(log or workdir)` returns.

        `program` stands in for the module; `limit` is the most memory that it may allocate, in MiB.
        """
        values = TINY | {"data.prepared_dir": self.place / "prepared"} | options
        command = [sys.executable, *(("-c", program) if program else ("-m", "ssagan_jax.main"))]
        command += ["--config=configs/quickstart.py", f"--workdir={workdir}"]
        command += [f"--config.{key}={value}" for key, value in values.items()]
        if limit:
            command = ["bash", "-c", f'ulimit -v {limit * 1024}; exec "$@"', "bash", *command]
        with open(f"{self.place / (log or Path(workdir).name)}.output", "wb") as file:
            return subprocess.Popen(
                command, stdout=file, stderr=file, cwd=ROOT, env=self._environment(devices)
            )

    def output(self, workdir):
        """The output of the last run of a work folder so far."""
        return (self.place / f"{Path(workdir).name}.output").read_text(errors="replace")

    def finish(self, workdir, *arguments, log=None, **options):
        """Exit code and output of a run."""
        code = self.start(workdir, *arguments, log=log, **options).wait(timeout=TIMEOUT)
        return code, self.output(log or workdir)

    def finish_with_error(self, workdir, *arguments, **options):
        """The output of a run that must exit with code 2, and without a traceback."""
        code, output = self.finish(workdir, *arguments, **options)
        assert code == 2 and "Traceback" not in output, output
        return output

    def finish_successfully(self, workdir, **options):
        """The output of a run that must succeed."""
        code, output = self.finish(workdir, **options)
        assert code == 0 and "Traceback" not in output, output
        return output

    def _environment(self, devices):
        flags = (
            f"--xla_force_host_platform_device_count={devices}",
            # Both spare compilation, of which there is far more here than there is to compute.
            "--xla_backend_optimization_level=0",
            *(f for f in os.environ["XLA_FLAGS"].split() if "fusion_emitters" in f),
        )
        return os.environ | {
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": " ".join(flags),
            "JAX_COMPILATION_CACHE_DIR": str(self.place / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }


def wait_for(process, condition):
    """Waits until a condition holds or the process ended; returns whether the condition held."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


def steps_in(workdir):
    """Steps of the checkpoints, by the names of their folders."""
    return Workdir(workdir).checkpoint_steps()


@functools.cache
def state_of(workdir, step):
    """Arrays by path of a finished run's checkpoint."""
    return read_state(workdir, step)


def read_state(workdir, step=None):
    """Arrays by path of a checkpoint (None: the latest intact one), and its data position."""
    folder = Workdir(workdir)
    tokenizer = folder.tokenizer()
    checkpoints = Checkpoints(folder.checkpoints, None, tokenizer.digest)
    state = checkpoints.restore(abstract_state(folder.config(), tokenizer), step=step)
    checkpoints.close()
    leaves = jax.tree_util.tree_leaves_with_path(state)
    found = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    manifest = (folder.checkpoints / f"{int(state.step)}/meta/metadata").read_text()
    return found, json.loads(manifest)["position"]


def assert_same_checkpoint(workdir, other, step):
    """All tensors (parameters, optimizers, key, step) bit for bit, and the position in the data."""
    (ours, position), (theirs, other_position) = read_state(workdir, step), state_of(other, step)
    assert ours.keys() == theirs.keys() and position == other_position == {"next_index": step}
    assert int(ours[".step"]) == step
    for name, leaf in ours.items():
        assert leaf.dtype == theirs[name].dtype and leaf.tobytes() == theirs[name].tobytes(), name


def rows_of(workdir):
    """The scores, the last of each name and step."""
    rows = map(json.loads, Workdir(workdir).metrics.read_text().splitlines())
    return {(row["step"], row["split"], row["name"]): row for row in rows}


def samples_of(workdir):
    return {file.name: file.read_bytes() for file in Workdir(workdir).samples.iterdir()}


def assert_same_end(workdir, other, steps=CHECKPOINTS):
    """Both ended with the same bits: checkpoints, sample grids, scores and tokenizer."""
    for step in steps:
        assert_same_checkpoint(workdir, other, step)
    assert rows_of(workdir) == rows_of(other)
    # Three grids, each as PNG and .npz, and the fixed samples of them all.
    assert samples_of(workdir) == samples_of(other) and len(samples_of(workdir)) == 7
    for name in ("tokenizer.json", "schedule.json"):
        assert (workdir / name).read_bytes() == (other / name).read_bytes()
