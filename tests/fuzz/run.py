"""Runs the targets: as part of the suite, or for minutes.

bash launch/fuzz.sh MINUTES [TARGET ...]
"""

import collections
import contextlib
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed

from fuzz.targets import make_targets

SECONDS = 10  # of processor time for one file; more is a hang
MEMORY = 16 * 2**30


@contextlib.contextmanager
def bounded():
    """Fails if the body takes more than `SECONDS` of processor time."""

    def stop(*_):
        raise AssertionError(f"more than {SECONDS} seconds for one file")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def fuzz(target, examples, seed=None):
    """Reads so many files of a target; returns how many were "read" and "refused"."""
    counts = collections.Counter()

    def check(content):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, target.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            with bounded():
                try:
                    target.read(Path(folder))
                    counts["read"] += 1
                except target.errors as error:
                    assert len(str(error)) < 5000, "a message as long as the file"
                    counts["refused"] += 1

    check = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )(given(target.files)(check))
    (check if seed is None else with_seed(seed)(check))()
    return counts


def main():
    minutes, names = float(sys.argv[1]), sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        targets = make_targets(Path(folder))
    targets = {name: targets[name] for name in names or targets}
    totals = {name: collections.Counter() for name in targets}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for name, target in targets.items():
            try:
                totals[name].update(fuzz(target, 100, random.getrandbits(32)))
            except Exception:
                traceback.print_exc()
                totals[name]["rounds that failed"] += 1
    for name, counts in totals.items():
        print(f"{name:20}", ", ".join(f"{number} {what}" for what, number in counts.items()))
    failed = sum(counts["rounds that failed"] for counts in totals.values())
    print(f"{sum(sum(counts.values()) for counts in totals.values())} files, {failed} failures")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
