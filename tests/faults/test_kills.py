"""A run that is killed at any moment resumes to the bits of an uninterrupted one."""

import collections
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fault_runs import STEPS, assert_same_checkpoint, assert_same_end, steps_in, wait_for

from ssagan_jax.workdir import Workdir

KILLS = int(os.environ.get("SSAGAN_KILLS", "20"))
CHAINS = 2  # Side by side.
# When to kill: at any time, after training began, while a checkpoint is saved, or near the end.
MOMENTS = ("any", "training", "saving", "any", "training", "saving", "any", "ending")


class Chain:
    """Runs of one work folder after another, each killed until there were enough kills."""

    def __init__(self, runs, reference, seconds, number):
        self.runs, self.reference, self.number = runs, reference, number
        self.started, self.all = seconds
        self.random = random.Random(number)
        self.phases = []
        self.folders = 0
        self.compared = 0

    def go(self, kills, lock):
        workdir = self._folder()
        while len(self.phases) < kills:
            moment = MOMENTS[len(self.phases) % len(MOMENTS)]
            process = self.runs.start(workdir)
            self._wait(process, workdir, moment)
            process.send_signal(signal.SIGKILL)
            if process.wait() == -signal.SIGKILL:
                self.phases.append(self._phase(workdir))
                with lock:
                    self._check(workdir)
            else:  # It had already ended.
                assert process.returncode == 0, self.runs.output(workdir)
                with lock:
                    assert_same_end(workdir, self.reference)
                workdir = self._folder()
        self.runs.finish_successfully(workdir)
        with lock:
            assert_same_end(workdir, self.reference)
        return self

    def _folder(self):
        self.folders += 1
        return self.runs.place / f"killed-{self.number}-{self.folders}"

    def _wait(self, process, workdir, moment):
        """Waits for a random moment of a kind, or for the run's end."""
        condition = {
            "any": lambda: True,
            "training": lambda: "training in" in self.runs.output(workdir),
            "saving": lambda: any(Workdir(workdir).checkpoints.glob("*tmp*")),
            "ending": lambda: STEPS in steps_in(workdir),
        }[moment]
        # Not longer than what is left to do, or most runs would end before they are killed.
        training = (self.all - self.started) * (1 - max([0, *steps_in(workdir)]) / (STEPS + 2))
        longest = {
            "any": self.started + training,
            "training": training,
            "saving": 0.15,
            "ending": 1.0,
        }[moment]
        skipped = self.random.randrange(3) if moment == "saving" else 0
        for _ in range(skipped):
            wait_for(process, condition)
            wait_for(process, lambda: not condition())
        wait_for(process, condition)
        until = time.monotonic() + self.random.uniform(0, longest)
        wait_for(process, lambda: time.monotonic() > until)

    def _phase(self, workdir):
        """What a killed run was doing, by its output and files."""
        output = self.runs.output(workdir)
        if any(Workdir(workdir).checkpoints.glob("*tmp*")):
            return "saving"
        if STEPS in steps_in(workdir):
            return "scoring"
        if "training in" not in output:
            return "start"
        return "gan stage" if "gan " in output else "encoder stage"

    def _check(self, workdir):
        for step in steps_in(workdir):
            assert_same_checkpoint(workdir, self.reference, step)
            self.compared += 1


def test_runs_killed_at_random_moments_resume_to_the_same_bits(runs, reference, seconds, report):
    assert_same_end(runs.place / "again", reference)  # As two uninterrupted runs do.
    lock = threading.Lock()
    chains = [Chain(runs, reference, seconds, number) for number in range(CHAINS)]
    with ThreadPoolExecutor(CHAINS) as pool:
        done = list(pool.map(lambda chain: chain.go(KILLS // CHAINS, lock), chains))
    phases = collections.Counter(phase for chain in done for phase in chain.phases)
    kills = phases.total()
    where = ", ".join(f"{count} in {phase}" for phase, count in sorted(phases.items()))
    compared = sum(chain.compared for chain in done)
    report(
        f"{kills} kills with SIGKILL",
        f"{kills} of {KILLS} resumed to the same bits ({where}; {compared} checkpoints were "
        "compared)",
    )
    assert kills == KILLS
    assert {"start", "saving"} <= phases.keys() and {"gan stage", "encoder stage"} & phases.keys()
