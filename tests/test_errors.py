"""Messages and exit codes if memory, a device or the disk fails."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ssagan_jax.errors import TrainingError, exit_on_user_error, is_lost_device

ROOT = Path(__file__).parents[1]
# As they stand in reports of users.
LOST = [
    "INTERNAL: Failed to retrieve branch_index value on stream 0x5583: CUDA error: Could not "
    "synchronize CUDA stream: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access",
    "INTERNAL: Failed to execute XLA Runtime executable: run time error: custom call failed: "
    "Failed to launch CUDA kernel: fusion_1560: CUDA_ERROR_ECC_UNCORRECTABLE",
    "INTERNAL: NCCL operation ncclGroupEnd() failed: unhandled system error.",
    "UNAVAILABLE: Task /job:jax_worker/replica:0/task:0 heartbeat timeout. This indicates that "
    "the remote task has failed, got preempted, or crashed unexpectedly.",
    "INTERNAL: Core halted unexpectedly: INTERNAL: Accelerator device halted prematurely",
    "UNAVAILABLE: Failed to send RPC to coordination service. Socket closed",
]
OTHERS = [
    "INTERNAL: Mosaic failed to compile",
    "INTERNAL: CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available",
    "INVALID_ARGUMENT: Argument does not match; heartbeat",
    "FAILED_PRECONDITION: DNN library initialization failed",
]


def heard(error, capsys):
    with pytest.raises(SystemExit) as caught, exit_on_user_error():
        raise error
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: ")
    return caught.value.code, said


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore"),
        jax.errors.JaxRuntimeError("INTERNAL: cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        MemoryError("Unable to allocate 6 TiB"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_answered_with_what_to_set_in_order(error, capsys):
    code, said = heard(error, capsys)
    keys = (
        "train.batch_size",
        "train.grad_accumulation_steps",
        "train.remat",
        "train.compute_dtype",
    )
    places = [said.index(f"config.{key}") for key in keys]
    assert code == 2 and places == sorted(places)
    assert (str(error).partition("\n")[0] or "MemoryError") in said
    assert "XLA_PYTHON_CLIENT_PREALLOCATE=false" in said and "XLA_CLIENT_MEM_FRACTION=" in said


def test_an_array_that_numpy_has_no_room_for_is_out_of_memory(capsys):
    def allocate():
        return np.zeros(2**60, np.uint8)

    with pytest.raises(SystemExit) as caught, exit_on_user_error():
        allocate()
    assert caught.value.code == 2 and "out of memory (Unable to" in capsys.readouterr().err


@pytest.mark.parametrize("text", LOST)
def test_a_lost_device_is_reported_with_how_to_resume(text):
    program = (
        "import jax, sys\nfrom ssagan_jax.errors import exit_on_user_error\n"
        "with exit_on_user_error():\n    raise jax.errors.JaxRuntimeError(sys.argv[1] + '\\nmore')"
    )
    assert is_lost_device(jax.errors.JaxRuntimeError(text))
    if text is not LOST[0]:  # One process is enough to see the end of it.
        return
    done = subprocess.run(
        [sys.executable, "-c", program, text], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == os.EX_TEMPFAIL == 75
    assert done.stderr == (
        f"error: a device or a machine failed ({text}); run the same command to resume from the "
        "last checkpoint\n"
    )


@pytest.mark.parametrize("text", OTHERS)
def test_other_errors_of_jax_keep_their_traceback(text):
    with pytest.raises(jax.errors.JaxRuntimeError), exit_on_user_error():
        raise jax.errors.JaxRuntimeError(text)


def test_words_of_a_lost_device_from_elsewhere_keep_their_traceback():
    with pytest.raises(RuntimeError), exit_on_user_error():
        raise RuntimeError(LOST[2])


def test_a_full_disk_is_reported_whatever_raises_it(capsys):
    text = f"RESOURCE_EXHAUSTED: Failed to write: {os.strerror(errno.ENOSPC)}; in zarr"
    code, said = heard(ValueError(text), capsys)
    assert code == 2 and text in said and "free some space" in said and "memory" not in said


def test_training_that_cannot_continue_is_reported(capsys):
    assert heard(TrainingError("10 steps in a row"), capsys) == (2, "error: 10 steps in a row\n")
