"""The lock of a work folder, held by other processes."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssagan_jax.training.workdir_lock import WorkdirLock
from ssagan_jax.workdir import WorkdirError

ROOT = Path(__file__).parents[1]
BEAT = 0.05
# Holds the lock as the host of that name, until its input ends.
HOLDS = """
import socket, sys
from pathlib import Path
from ssagan_jax.training.workdir_lock import WorkdirLock

socket.gethostname = lambda: sys.argv[2]
lock = WorkdirLock(Path(sys.argv[1]), float(sys.argv[3]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
lock.release()
"""
NO_FLOCK = """
import fcntl, os
def flock(*arguments):
    raise OSError(95, os.strerror(95))
fcntl.flock = flock
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run/train.lock"


@pytest.fixture
def hold(path):
    """Starts a process that holds the lock."""
    processes = []

    def start(host=None, program=HOLDS):
        command = [sys.executable, "-c", program, path, host or socket.gethostname(), str(BEAT)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def without_flock(monkeypatch):
    """As on file systems that have none."""

    def flock(*arguments):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)


def refused(path):
    with pytest.raises(WorkdirError) as caught:
        WorkdirLock(path, BEAT).acquire()
    return str(caught.value)


def assert_free(path):
    """It is taken with this process's name in it, and removed at the end."""
    lock = WorkdirLock(path, BEAT)
    lock.acquire()
    assert json.loads(path.read_text())["pid"] == os.getpid()
    lock.check()
    lock.release()
    assert not path.exists()


def write_holder(path, **holder):
    path.parent.mkdir()
    path.write_text(json.dumps(holder | {"since": "2026-01-01 00:00:00 UTC"}))


def test_the_second_one_learns_who_holds_it_and_since_when(path, hold, capsys):
    holder = hold()
    message = refused(path)
    assert re.fullmatch(
        rf"--workdir={path.parent}: another training uses this folder \(process {holder.pid} on "
        rf"{socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\); wait until .*",
        message,
    )
    assert capsys.readouterr().out == ""  # It did not wait.
    holder.communicate("")
    assert not path.exists()
    assert_free(path)


def test_a_folder_is_one_under_two_mounts(path, hold, tmp_path):
    path.parent.mkdir()
    other = tmp_path / "other mount"
    other.mkdir()
    command = ["mount", "--bind", path.parent, other]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for host in (None, "other-host"):
            holder = hold(host)
            assert f"--workdir={other}: another" in refused(other / path.name)
            assert f"process {holder.pid} on" in refused(other / path.name)
            holder.communicate("")
        assert_free(other / path.name)
    finally:
        subprocess.run(["umount", "-l", other], check=True)


def test_the_lock_of_a_killed_process_is_taken_over(path, hold):
    holder = hold()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert path.exists()
    assert_free(path)


def test_a_suspended_process_keeps_it(path, hold):
    holder = hold()
    holder.send_signal(signal.SIGSTOP)
    time.sleep(4 * BEAT)
    assert f"process {holder.pid}" in refused(path)


def test_a_holder_on_another_machine_is_seen_by_its_sign_of_life(path, hold, capsys):
    holder = hold("other-host")
    assert f"process {holder.pid} on other-host" in refused(path)
    assert "waiting for a sign of life" in capsys.readouterr().out


def test_without_flock_the_sign_of_life_counts(path, hold, without_flock):
    for host in ("other-host", None):
        holder = hold(host, NO_FLOCK + HOLDS)
        assert f"process {holder.pid}" in refused(path)
        holder.communicate("")


def test_without_flock_a_process_that_is_gone_is_found_out(path, hold, without_flock, capsys):
    for host, is_told in ((None, False), ("other-host", True)):
        holder = hold(host, NO_FLOCK + HOLDS)
        holder.kill()
        holder.wait()
        assert_free(path)
        assert ("waiting for a sign of life" in capsys.readouterr().out) == is_told


def test_a_machine_that_is_gone_loses_it(path, capsys):
    write_holder(path, host="other-\x1b[2Jhost", pid=1)
    assert_free(path)
    assert r"on other-\x1b[2Jhost, since 2026-01-01" in capsys.readouterr().out


def test_who_lost_it_to_another_stops(path):
    lock = WorkdirLock(path, BEAT)
    lock.acquire()
    path.write_text(json.dumps({"host": "other-host", "pid": 7}))
    with pytest.raises(WorkdirError, match="process 7 on other-host, since unknown"):
        lock.check()
    lock.release()
    assert path.exists()  # It is the other's.


@pytest.mark.parametrize("content", ["", "[]", "[" * 4000, "{", '{"pid": "x"}', "\0\xff"])
def test_a_damaged_lock_file_is_taken_over(content, path):
    path.parent.mkdir()
    path.write_text(content)
    assert_free(path)


def test_a_lock_file_that_is_no_file_is_refused(path):
    path.parent.mkdir()
    (path.parent / "target").write_text("precious")
    for make in (
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path.parent / "target"),
    ):
        make()
        assert refused(path) == f"{path}: is not a plain file; delete it"
        path.rmdir() if path.is_dir() else path.unlink()
    assert (path.parent / "target").read_text() == "precious"


def test_a_folder_that_is_just_being_locked_is_not_taken(path):
    path.parent.mkdir()
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "process unknown on unknown" in refused(path)
