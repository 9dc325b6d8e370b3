"""Signals, terminals and readers that go away: a training saves and ends, other commands end."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A loop like that of the training, which writes to both outputs; it has saved when it exits.
TRAINS = """
import sys, time
from ssagan_jax.training.stop_signals import StopSignals

with StopSignals() as stop:
    sys.stdin.readline()  # The test is ready.
    for step in range(400):
        print("step", step, flush=True)
        print("loss", step, file=sys.stderr, flush=True)
        if stop.received:
            break
        time.sleep(0.01)
print("saved", flush=True)
open(sys.argv[1], "w").write(str(int(stop.received)))
"""


@pytest.fixture
def start(tmp_path):
    def start(**options):
        command = [sys.executable, "-c", TRAINS, tmp_path / "signal"]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, **options)

    return start


def assert_ended(process, tmp_path, number):
    assert process.wait(timeout=120) == 0
    assert (tmp_path / "signal").read_text() == str(int(number))


def test_a_closed_terminal_requests_a_stop_and_takes_no_output(start, tmp_path):
    terminal, inner = os.openpty()

    def own_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Ignored if these tests run under nohup.
        os.setsid()
        fcntl.ioctl(inner, termios.TIOCSCTTY, 0)

    process = start(stdout=inner, stderr=inner, preexec_fn=own_terminal)
    os.close(inner)
    process.stdin.write(b"\n")
    process.stdin.flush()
    os.read(terminal, 4)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)  # A shell adds its own to the terminal's.
    assert_ended(process, tmp_path, signal.SIGHUP)


def test_the_second_signal_of_a_closed_terminal_may_come_after_the_training():
    program = (
        "import os, signal\n"
        "from ssagan_jax.training.stop_signals import StopSignals\n"
        "with StopSignals(): os.kill(os.getpid(), signal.SIGHUP)\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    default = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, **default).returncode == 0


def test_nohup_goes_on(start, tmp_path):
    process = start(
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.send_signal(signal.SIGHUP)
    assert_ended(process, tmp_path, 0)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_that_nobody_reads_requests_a_stop(stream, start, tmp_path):
    process = start(**{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {stream: -1})
    process.stdin.write(b"\n")
    process.stdin.flush()
    pipe = getattr(process, stream)
    pipe.read(4)
    pipe.close()
    assert_ended(process, tmp_path, signal.SIGPIPE)


@pytest.mark.parametrize(
    "command",
    [
        "-m ssagan_jax --help",
        "-m ssagan_jax sample --help",
        # What is printed during the work, and at its end.
        "-c from ssagan_jax.errors import *\nwith exit_on_user_error():\n while 1: print('a' * 99)",
        "-c from ssagan_jax.errors import *\nwith exit_on_user_error():\n print('a')",
    ],
)
def test_other_commands_end_quietly_when_nobody_reads(command, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    option, _, rest = command.partition(" ")
    arguments = [rest] if option == "-c" else rest.split()
    done = subprocess.run(
        [sys.executable, option, *arguments],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # With it, argparse hides the broken pipe.
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_another_broken_pipe_is_not_hidden():
    program = "from ssagan_jax.errors import *\nwith exit_on_user_error(): raise BrokenPipeError"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert done.returncode == 1 and b"BrokenPipeError" in done.stderr
