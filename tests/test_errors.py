"""Messages and exit codes if memory, a device or the disk fails."""

import errno
import os
import pwd
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ssagan_jax.atomic_files import (
    atomic_folder,
    atomic_path,
    check_new_folder,
    write_atomically,
)
from ssagan_jax.errors import InputError, TrainingError, exit_on_user_error, is_lost_device

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


def exit_with(error, capsys):
    """Exit code and message of an error."""
    with pytest.raises(SystemExit) as caught, exit_on_user_error():
        raise error
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.startswith("error: ")
    return caught.value.code, message


def run_program(body, *arguments):
    """Runs an indented line within `exit_on_user_error` in a process."""
    program = (
        "import jax, sys\nfrom ssagan_jax.errors import exit_on_user_error\n"
        f"with exit_on_user_error():\n    {body}"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )


def numpy_error():
    with pytest.raises(MemoryError) as caught:
        np.zeros(2**60, np.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore"),
        jax.errors.JaxRuntimeError("INTERNAL: cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        numpy_error(),
        MemoryError(),
    ],
)
def test_out_of_memory_is_reported_with_what_to_set_in_order(error, capsys):
    code, message = exit_with(error, capsys)
    keys = ("batch_size", "grad_accumulation_steps", "remat", "compute_dtype")
    places = [message.index(f"config.train.{key}") for key in keys]
    assert code == 2 and places == sorted(places)
    assert f"out of memory ({str(error).partition(chr(10))[0] or 'MemoryError'})" in message
    assert "XLA_PYTHON_CLIENT_PREALLOCATE=false" in message
    assert "XLA_CLIENT_MEM_FRACTION=" in message


@pytest.mark.parametrize("text", LOST)
def test_a_lost_device_is_recognized(text):
    assert is_lost_device(jax.errors.JaxRuntimeError(text))


def test_a_lost_device_is_reported_with_how_to_resume():
    done = run_program("raise jax.errors.JaxRuntimeError(sys.argv[1] + '\\nmore')", LOST[0])
    assert done.returncode == os.EX_TEMPFAIL == 75
    assert done.stderr == (
        f"error: a device or a machine failed ({LOST[0]}); run the same command to resume from the "
        "last checkpoint\n"
    )


def test_ctrl_c_before_training_exits_without_a_traceback():
    done = run_program("raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "error",
    [
        *map(jax.errors.JaxRuntimeError, OTHERS),
        RuntimeError(LOST[2]),  # Not from jax.
        ValueError("a bug"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)), exit_on_user_error():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.ENOSPC, "No space"),
        ValueError(f"RESOURCE_EXHAUSTED: Failed to write: {os.strerror(errno.ENOSPC)}; in zarr"),
    ],
)
def test_a_disk_that_cannot_be_written_is_reported(error, capsys):
    code, message = exit_with(error, capsys)
    assert code == 2 and str(error) in message and "memory" not in message
    assert "free some space or choose another folder" in message


@pytest.mark.parametrize("write_to", [atomic_path, atomic_folder])
def test_a_disk_that_fills_up_is_named_and_nothing_is_left(write_to, tmp_path, capsys):
    target = tmp_path / "new"
    with pytest.raises(SystemExit), exit_on_user_error(), write_to(target) as part:
        (part / "first" if write_to is atomic_folder else part).write_text("kept until it failed")
        # What a write raises has no path.
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert f"No space left on device: '{target}'; free some space" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_new_folder_may_be_a_link_to_an_empty_one_but_no_mount_point(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    target = check_new_folder("--output", str(tmp_path / "link"))
    with atomic_folder(target) as part:
        (part / "file").touch()
    assert (tmp_path / "link/file").exists() and (tmp_path / "link").is_symlink()
    with pytest.raises(InputError, match="--output=/proc: is a mount point"):
        check_new_folder("--output", "/proc")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "x"), RuntimeError(f"[/a/b] {os.strerror(errno.EMFILE)}: tensorstore")],
)
def test_too_few_open_files_are_reported(error, capsys):
    code, message = exit_with(error, capsys)
    assert code == 2 and message.endswith("more open files (ulimit -n 1024), and try again\n")


def test_a_name_that_a_library_cannot_take_is_reported(capsys):
    with pytest.raises(UnicodeEncodeError) as caught:
        os.fsdecode(b"data/caf\xe9").encode()
    code, message = exit_with(caught.value, capsys)
    assert code == 2 and "'data/caf\\udce9': a name that is not UTF-8" in message


def test_a_user_without_a_home_is_told(capsys, monkeypatch):
    def expand_home():
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", lambda user: {}[user])  # As in containers.
        Path("~/data").expanduser()

    with pytest.raises(RuntimeError) as caught:
        expand_home()
    code, message = exit_with(caught.value, capsys)
    assert code == 2 and "Set HOME to a folder" in message


def test_a_file_name_that_is_no_text_can_be_printed_and_written(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    done = run_program("print(sys.argv[1])", name)
    assert (done.returncode, done.stdout) == (0, "caf\\udce9\n")
    write_atomically(tmp_path / name, name)
    assert (tmp_path / name).read_text() == "caf\\udce9"


@pytest.mark.parametrize("kind", [InputError, TrainingError])
def test_the_message_of_an_input_error_is_reported(kind, capsys):
    assert exit_with(kind("10 steps in a row"), capsys) == (2, "error: 10 steps in a row\n")
