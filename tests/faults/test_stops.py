"""Runs that are asked to stop, run out of disk or memory, or lose a device."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from fault_runs import (
    CHECKPOINTS,
    STEPS,
    TIMEOUT,
    assert_same_checkpoint,
    assert_same_end,
    steps_in,
    wait_for,
)

from ssagan_jax.reporting.tensorboard_events import read_events
from ssagan_jax.workdir import Workdir

# A CPU does not fail like this, so the error is raised after a step.
LOSES_ITS_DEVICE = """
import jax
from ssagan_jax import main
from ssagan_jax.training.step_monitor import StepMonitor

after_step, left = StepMonitor.after_step, 7

def after_step_or_fail(monitor, step, metrics):
    global left
    after_step(monitor, step, metrics)
    left -= 1
    if left == 0:
        raise jax.errors.JaxRuntimeError(
            "INTERNAL: CUDA error: Could not synchronize CUDA stream: "
            "CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered\\n more of it"
        )

StepMonitor.after_step = after_step_or_fail
main.run_command()
"""

# The clock is set in the middle of both stages, and then the run is asked to stop.
SETS_THE_CLOCK = """
import os, signal, time

clock, offset = time.time, 0
time.time = lambda: clock() + offset

from ssagan_jax import main
from ssagan_jax.training.step_monitor import StepMonitor

after_step = StepMonitor.after_step

def after_step_and_set_the_clock(monitor, step, metrics):
    global offset
    after_step(monitor, step, metrics)
    offset = {3: -3600, 5: 86_400, 7: -3600}.get(step, offset)
    if step == 8:
        os.kill(os.getpid(), signal.SIGTERM)

StepMonitor.after_step = after_step_and_set_the_clock
main.run_command()
"""


def test_a_stopped_process_keeps_its_folder_and_goes_on_to_the_same_bits(runs, reference, report):
    workdir = runs.place / "suspended"
    checkpoints = Workdir(workdir).checkpoints
    process = runs.start(workdir)
    moments = {
        "encoder stage": lambda: 2 in steps_in(workdir),
        "saving": lambda: 4 in steps_in(workdir) and any(checkpoints.glob("*tmp*")),
        "gan stage": lambda: 8 in steps_in(workdir),
    }
    for condition in moments.values():
        assert wait_for(process, condition)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        output, steps = runs.output(workdir), steps_in(workdir)
        if steps[-1] == 2:
            second = runs.finish_with_error(workdir, log="second")
            holder = f"another training uses this folder (process {process.pid} on "
            assert holder in second
        assert (runs.output(workdir), steps_in(workdir)) == (output, steps)
        process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=TIMEOUT) == 0
    output = runs.output(workdir)
    assert "Traceback" not in output and not re.search(r"\b(nan|inf)\b|left -|\b-\d+:", output)
    assert re.search(r" [1-9]\d*\.\d images/s", output)
    assert_same_end(workdir, reference)
    report("SIGSTOP, 2 s, SIGCONT", f"the same bits, in {', '.join(moments)}; a second one: exit 2")


def test_a_clock_that_is_set_changes_nothing(runs, reference, report):
    workdir = runs.place / "clock"
    options = {"log.keep_checkpoints": 2}
    code, output = runs.finish(workdir, SETS_THE_CLOCK, **options)
    assert code == 143 and "Traceback" not in output, output
    last = steps_in(workdir)[-1]
    assert len(steps_in(workdir)) == 2 and f"checkpoint saved at step {last}" in output
    # TensorBoard's file is dated a day later than what follows.
    (events,) = workdir.glob("events.out.tfevents.*")
    parts = events.name.split(".")
    parts[3] = str(int(parts[3]) + 86_400)
    events.rename(events.with_name(".".join(parts)))
    assert f"now at step {last}" in runs.finish_successfully(workdir, **options)
    assert steps_in(workdir) == [10, 12]
    assert_same_end(workdir, reference, [10, 12])
    (ours, _), (theirs, _) = read_events(workdir), read_events(reference)
    for name, values in theirs.items():
        assert name.startswith(("time/", "memory/")) or ours[name] == values, name
    report("the clock is set by -1 h, +1 day", "the same bits, checkpoints and scalars")


def test_sigterm_saves_the_current_step(runs, reference, report):
    workdir = runs.place / "terminated"
    process = runs.start(workdir)
    assert wait_for(process, lambda: 2 in steps_in(workdir))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=TIMEOUT) == 143
    last, output = steps_in(workdir)[-1], runs.output(workdir)
    assert f"checkpoint saved at step {last}" in output and "Traceback" not in output
    assert 2 <= last < STEPS
    assert f"now at step {last}" in runs.finish_successfully(workdir)
    assert_same_end(workdir, reference)
    report("SIGTERM", f"exit code 143, saved at step {last}, resumed to the same bits")


@pytest.fixture
def small_disk(runs):
    """A disk of 256 MiB."""
    folder = runs.place / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if not shutil.which("mount"):
        pytest.skip("there is no mount command")
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_is_reported_and_the_run_resumes_with_space(
    small_disk, runs, reference, report
):
    workdir = small_disk / "filled"
    process = runs.start(workdir)
    assert wait_for(process, lambda: 4 in steps_in(workdir))
    with pytest.raises(OSError, match="No space left"), open(small_disk / "other", "wb") as other:
        while True:
            other.write(bytes(2**16))
            other.flush()
    code, output = process.wait(timeout=TIMEOUT), runs.output(workdir)
    assert (code, "Traceback" in output) == (2, False), output
    assert "No space left" in output and "free some space" in output
    left = steps_in(workdir)
    assert left and left[-1] < STEPS
    for step in left:
        assert_same_checkpoint(workdir, reference, step)
    (small_disk / "other").unlink()
    assert f"now at step {left[-1]}" in runs.finish_successfully(workdir)
    assert_same_end(workdir, reference)
    report("a disk of 256 MiB fills up", f"exit code 2, {left} intact, resumed to the same bits")


def test_a_lost_device_is_reported_and_the_same_command_resumes(runs, reference, report):
    workdir = runs.place / "lost"
    code, output = runs.finish(workdir, LOSES_ITS_DEVICE)
    assert code == os.EX_TEMPFAIL and "Traceback" not in output, output
    (line,) = [
        line for line in output.splitlines() if "error: a device or a machine failed" in line
    ]
    assert "CUDA_ERROR_ECC_UNCORRECTABLE" in line and "run the same command to resume" in line
    left = steps_in(workdir)
    assert left and set(left) <= set(CHECKPOINTS)
    runs.finish_successfully(workdir)
    assert_same_end(workdir, reference)
    report("a lost device (raised by the test)", f"exit code 75 after {left}, then the same bits")


def test_out_of_memory_is_reported_with_what_to_set(runs, reference, report):
    # One step of all images needs 18 GB, more than the process may allocate.
    options = {"train.batch_size": 640, "damsm.steps": 0, "damsm.epochs": 0}
    sizes = {"generator.channels": 128, "discriminator.channels": 64}
    workdir = runs.place / "large"
    output = runs.finish_with_error(workdir, limit=12_000, **options, **sizes)
    (line,) = [line for line in output.splitlines() if "error: out of memory" in line]
    assert "RESOURCE_EXHAUSTED: Out of memory allocating" in line
    for key in ("batch_size", "grad_accumulation_steps", "remat", "compute_dtype"):
        assert f"config.train.{key}" in line
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" in line
    report("out of memory", "exit code 2, what to set in order")
