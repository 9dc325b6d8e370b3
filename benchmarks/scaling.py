"""What the devices of a run send each other in a GAN step, and how long that takes on paper.

    python benchmarks/scaling.py --channels=64 --batch_size=16 --step_ms=120

Compiles the step for 1, 2, 4 and 8 simulated devices with `--batch_size` images on each, and sums
the collectives of the compiled programs. Nothing is run; on one device nothing is sent. The second
table estimates the efficiency on 4, 8 and 32 devices: step / (step + communication), by a ring's
bandwidth term, 2 (n - 1) / n bytes / bandwidth of an all-reduce and (n - 1) / n of an all-gather,
and its latency, 2 (n - 1) or n - 1 hops. `--step_ms` is a step on one
device as `step.py` measures it.

Two bounds: "nothing overlaps"; and "gradients overlap", in which the all-reduces of gradients (of
1 MiB and more) run while other parts are computed, and only batch norm's, DAMSM's and other small
collectives, which the next layer waits for, count. On GPUs XLA combines small collectives that do
not depend on each other, so their number, and latencies, are upper bounds.
"""

import argparse
import collections
import json
import math
import os
import re
import subprocess
import sys
from typing import NamedTuple

# Bandwidth in bytes/s each way and latency of a hop in s: assumptions, not measurements.
LINKS = {
    "NVLink 4 (H100)": (450e9, 3e-6),
    "PCIe 4.0 x16": (25e9, 8e-6),
    "100 Gb Ethernet": (12e9, 25e-6),
}
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_BYTES |= {"f64": 8, "s64": 8, "u64": 8}
_KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
_COLLECTIVE = re.compile(rf"= (\(?[^=]*?\)?) ({_KINDS})(?:-start)?\(")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
LARGE = 2**20


class Collective(NamedTuple):
    """Its kind, and the bytes of its result on each device."""

    kind: str
    size: int


def collectives(hlo: str) -> list[Collective]:
    """The collectives of an optimized program; those inside of a loop once."""
    found = []
    for shapes, kind in _COLLECTIVE.findall(re.sub(r"/\*.*?\*/", "", hlo)):
        sizes = [
            _BYTES[dtype] * math.prod(map(int, filter(None, shape.split(","))))
            for dtype, shape in _SHAPE.findall(shapes)
            if dtype in _BYTES
        ]
        found.append(Collective(kind, sum(sizes)))
    return found


def seconds(collective: Collective, devices: int, bandwidth: float, latency: float) -> float:
    """Time of a collective on a ring of devices."""
    passes = 2 if collective.kind == "all-reduce" else 1
    hops = passes * (devices - 1)
    return hops * (collective.size / devices / bandwidth + latency)


def _compile(flags: argparse.Namespace) -> None:
    """Prints the collectives of the step for the devices of this process as JSON."""
    import jax
    from direct_step import first_state, make_config, noise_batch, step_function

    from ssagan_jax.steps.pmap import PmapStep, replicate

    batch_size = flags.batch_size * jax.device_count()
    config = make_config(flags.image_size, flags.channels, batch_size, flags.dtype)
    step = PmapStep(step_function(config))
    compiled = step.compile(replicate(first_state(config)), noise_batch(config))
    print(json.dumps(collectives(compiled.as_text())))


def _collectives_at(flags: argparse.Namespace, devices: int) -> list[Collective]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0 "
        f"--xla_force_host_platform_device_count={devices}",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--compile", *sys.argv[1:]],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
    )
    return [Collective(*item) for item in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16, help="images on each device")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--step_ms", type=float, help="a step on one device")
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.compile:
        _compile(flags)
        return
    print(f"{flags.image_size} px, {flags.channels} channels, {flags.batch_size} images a device\n")
    print("| devices | collective | number | of 1 MiB and more | MiB | MiB of those |")
    print("| --- | --- | --- | --- | --- | --- |")
    found: list[Collective] = []
    for devices in flags.devices:
        found = _collectives_at(flags, devices)
        kinds = collections.defaultdict(list)
        for item in found:
            kinds[item.kind].append(item.size)
        for kind, sizes in sorted(kinds.items()) or [("none", [])]:
            large = [size for size in sizes if size >= LARGE]
            sums = f"{sum(sizes) / 2**20:.2f} | {sum(large) / 2**20:.2f}"
            print(f"| {devices} | {kind} | {len(sizes)} | {len(large)} | {sums} |", flush=True)
    print("\n| link | devices | gradients ms | other ms | nothing overlaps | gradients overlap |")
    print("| --- | --- | --- | --- | --- | --- |")
    for link, (bandwidth, latency) in LINKS.items():
        for devices in (4, 8, 32):
            times = {True: 0.0, False: 0.0}
            for item in found:
                # A gathered result grows with the devices; those here had the last number.
                grown = devices / flags.devices[-1] if item.kind == "all-gather" else 1
                item = Collective(item.kind, int(item.size * grown))
                large = item.kind == "all-reduce" and item.size >= LARGE
                times[large] += seconds(item, devices, bandwidth, latency)
            row = f"| {link} | {devices} | {times[True] * 1e3:.2f} | {times[False] * 1e3:.2f} | "
            if flags.step_ms:
                step = flags.step_ms / 1e3
                row += f"{step / (step + sum(times.values())):.0%} | "
                row += f"{step / (step + times[False]):.0%} |"
            else:
                row += "needs --step_ms | |"
            print(row)


if __name__ == "__main__":
    sys.exit(main())
