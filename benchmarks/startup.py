"""From the shell to the first image and to the first step, with an empty and a filled cache.

    python benchmarks/startup.py                         # this checkout
    python benchmarks/startup.py --against=OTHER_CHECKOUT

Each command runs in a process of its own, first with an empty folder of compiled programs (cold),
then again (warm): `sample` to its end; a new run and a resumed one to the first step that the
progress bar counts, of stage 1 and of stage 2; `evaluate` to its end. Printed are wall seconds and
CPU seconds of the process. With `--against` both checkouts take turns, and the last columns are the
other's seconds divided by this one's. A checkout without a compilation cache of its own is always
cold.
"""

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Checkout:
    """A checkout with its run and its cache, in a temporary folder."""

    def __init__(self, path: Path, scratch: Path, overrides: list[str]) -> None:
        self._path, self._workdir, self._cache = path, scratch / "run", scratch / "cache"
        train = ["ssagan_jax.main", "--config=quickstart", "--config.log.checkpoint_every=1000000"]
        self._train = [*train, f"--config.data.prepared_dir={scratch.parent / 'prepared'}"]
        self._train += [f"--config.{override}" for override in overrides]

    def measure(self, name: str, cold: bool) -> tuple[float, float]:
        """Wall and CPU seconds of a command."""
        if cold:
            shutil.rmtree(self._cache, ignore_errors=True)
        if name == "sample":
            output = f"--output={self._workdir / 'painted'}"
            return self._run(["ssagan_jax.sample", "--caption=a red car", "--num=4", output])
        if name == "evaluate":
            return self._run(["ssagan_jax.evaluate", "--num=16"])
        if name == "new run, stage 1":
            shutil.rmtree(self._workdir, ignore_errors=True)
            return self._run([*self._train, "--config.damsm.steps=100000"], "encoders")
        if name == "new run, stage 2":
            shutil.rmtree(self._workdir, ignore_errors=True)
        no_stage_1 = ["--config.damsm.steps=0", "--config.damsm.epochs=0"]
        return self._run([*self._train, *no_stage_1], "gan")

    def _run(self, module: list[str], stage: str = "") -> tuple[float, float]:
        """Runs a module to its end, or until the progress bar counts a step; then ends it."""
        environment = os.environ | {"PYTHONPATH": str(self._path), "SSAGAN_CACHE": str(self._cache)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [sys.executable, "-m", *module, f"--workdir={self._workdir}"]
        before, start = _child_seconds(), time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        text, wall = "", 0.0
        while piece := os.read(process.stdout.fileno(), 4096):
            text += piece.decode(errors="replace")
            counted = [int(count) for count in re.findall(rf"{stage} (\d+)/", text)]
            if stage and not wall and counted and counted[-1] > counted[0]:
                wall = time.perf_counter() - start
                process.send_signal(signal.SIGTERM)
        process.wait()
        if process.returncode not in (0, 128 + signal.SIGTERM) or (stage and not wall):
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{text[-2000:]}")
        # The CPU time of a run includes its last checkpoint.
        return wall or time.perf_counter() - start, _child_seconds() - before


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Prints a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--overrides", nargs="*", default=[], help="such as data.image_size=32")
    choices = ["new run, stage 2", "resumed run", "sample", "evaluate", "new run, stage 1"]
    parser.add_argument("--commands", nargs="+", choices=choices, default=choices)
    parser.add_argument("--repeats", type=int, default=1)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [ROOT, *filter(None, [flags.against])]
        checkouts = [
            Checkout(place.resolve(), Path(folder, str(number)), flags.overrides)
            for number, place in enumerate(places)
        ]
        if flags.commands[0] not in choices[:1]:
            for checkout in checkouts:  # The other commands need its checkpoint.
                checkout.measure(choices[0], cold=True)
        print("| command | programs | wall s | CPU s | other wall s | other CPU s | ratios |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name in flags.commands:
            for cold in (True, False):
                best = [
                    min(found)
                    for found in zip(
                        *(
                            [checkout.measure(name, cold) for checkout in checkouts]
                            for _ in range(flags.repeats)
                        ),
                        strict=True,
                    )
                ]
                cells = [f"{value:.1f}" for pair in best for value in pair]
                if len(best) == 2:
                    cells.append(" / ".join(f"{b / a:.2f}" for a, b in zip(*best, strict=True)))
                print(
                    f"| {name} | {'cold' if cold else 'warm'} | {' | '.join(cells)} |", flush=True
                )


if __name__ == "__main__":
    sys.exit(main())
