"""One uninterrupted run, with which all others are compared."""

import time

import pytest
from fault_runs import STEPS, TIMEOUT, Runs, steps_in

REPORT = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def reference(runs):
    """The work folder of an uninterrupted run."""
    workdir = runs.place / "reference"
    output = runs.finish_successfully(workdir)
    assert f"trained {STEPS} steps" in output and steps_in(workdir)[-1] == STEPS
    return workdir


@pytest.fixture(scope="session")
def seconds(runs, reference):
    """Seconds until a run with a warm compilation cache trains, and until it ends."""
    began = time.monotonic()
    process = runs.start(runs.place / "again")
    while "training in" not in runs.output("again"):
        assert process.poll() is None
        time.sleep(0.01)
    started = time.monotonic() - began
    assert process.wait(timeout=TIMEOUT) == 0
    return started, time.monotonic() - began


@pytest.fixture
def report(request):
    """(fault, outcome): adds a line to the table at the end."""
    return lambda *line: request.config.stash.setdefault(REPORT, []).append(line)


def pytest_terminal_summary(terminalreporter):
    lines = terminalreporter.config.stash.get(REPORT, [])
    if lines:
        terminalreporter.section("faults")
        for fault, outcome in lines:
            terminalreporter.line(f"{fault:34} {outcome}")
