"""One uninterrupted run, which all others are held against."""

import time

import pytest
from runs import STEPS, Runs, steps_in

REPORT = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def whole(runs):
    """The work folder of a run that nothing happened to."""
    workdir = runs.place / "whole"
    said = runs.finish_well(workdir)
    assert f"trained {STEPS} steps" in said and steps_in(workdir)[-1] == STEPS
    return workdir


@pytest.fixture(scope="session")
def seconds(runs, whole):
    """How long a run takes that has nothing to compile: until it trains, and in all."""
    began = time.monotonic()
    process = runs.start(runs.place / "again")
    while "training in" not in runs.said("again"):
        assert process.poll() is None
        time.sleep(0.01)
    started = time.monotonic() - began
    assert process.wait(timeout=400) == 0
    return started, time.monotonic() - began


@pytest.fixture
def happened(request):
    """(fault, what happened): puts a line in the table at the end."""
    return lambda *line: request.config.stash.setdefault(REPORT, []).append(line)


def pytest_terminal_summary(terminalreporter):
    lines = terminalreporter.config.stash.get(REPORT, [])
    if lines:
        terminalreporter.section("faults")
        for fault, outcome in lines:
            terminalreporter.line(f"{fault:34} {outcome}")
