"""Losses that are not finite: from NaN in images, and from too high a learning rate."""

from fault_runs import STEPS, assert_same_checkpoint, read_state, steps_in

# Images are bytes, which cannot be NaN; these are floats, with a NaN in some batches.
PLANTS_NAN = """
import numpy as np
from ssagan_jax import main
from ssagan_jax.training import run

batches = run.training_batches

class Planted:
    def __init__(self, inner):
        self.inner, self.get_state, self.set_state = inner, inner.get_state, inner.set_state

    def __next__(self):
        batch = next(self.inner)
        batch["image"] = batch["image"].astype(np.float32)
        if self.get_state()["next_index"] in {bad}:
            batch["image"][0, 0, 0, 0] = np.nan
        return batch

run.training_batches = lambda *args, **kwargs: Planted(batches(*args, **kwargs))
main.run_command()
"""


def assert_finite_checkpoints(workdir):
    for step in steps_in(workdir):
        state, _ = read_state(workdir, step)
        assert all((leaf == leaf).all() for leaf in state.values())


def test_nan_in_a_picture_does_not_reach_the_weights(runs, report):
    workdir = runs.place / "planted"
    # The quickstart has neither; here all losses and networks meet NaN.
    options = {"loss.damsm_words": True, "train.encoders": "trained"}
    code, output = runs.finish(workdir, PLANTS_NAN.replace("{bad}", "{4, 9}"), **options)
    assert code == 0 and "Traceback" not in output, output
    assert (
        "step 4: damsm/sentences is nan, damsm/words is nan; skipped the update of encoders (1"
        in output
    )
    (line,) = [line for line in output.splitlines() if "step 9: " in line]
    assert "discriminator/real is nan" in line
    assert "; skipped the update of discriminator, encoders" in line
    assert_finite_checkpoints(workdir)
    assert steps_in(workdir)[-1] == STEPS
    report("NaN in a picture at 2 steps", "reported with step and term, no tensor holds NaN")


def test_too_many_in_a_row_leave_the_last_good_checkpoint(runs, reference, report):
    workdir = runs.place / "diverged"
    bad = set(range(7, STEPS + 1))
    program, options = PLANTS_NAN.replace("{bad}", str(bad)), {"train.max_nonfinite_steps": 3}
    output = runs.finish_with_error(workdir, program, **options)
    assert "error: step 9: " in output and "(3 in a row" in output
    left = steps_in(workdir)
    assert left[:3] == [2, 4, 6] and left[-1] <= 10
    for step in (2, 4, 6):
        assert_same_checkpoint(workdir, reference, step)
    report("NaN in 3 steps in a row", f"exit code 2, checkpoints {left} intact")


def test_a_learning_rate_that_is_too_high_is_reported(runs, report):
    workdir = runs.place / "rate"
    options = {"discriminator.learning_rate": 1e30, "train.max_nonfinite_steps": 2}
    output = runs.finish_with_error(workdir, **options)
    assert "in a row, config.train.max_nonfinite_steps=2" in output
    assert "lower the learning rates" in output
    assert_finite_checkpoints(workdir)
    report("a learning rate of 1e30", "exit code 2 after 2 bad steps, no tensor holds NaN")
