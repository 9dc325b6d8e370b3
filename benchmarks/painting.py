"""Images per second and the time to the first image, ours and the PyTorch reference's.

    python benchmarks/painting.py --reference=DIR --channels 64 --batch_sizes 1 4 16 64

From token ids on the host to uint8 images on the host. Both take turns; the reference (a checkout
of github.com/wtliao/text2image, see `step.py`) paints with its text encoder and generator in
evaluation mode. "first image" is the time of a batch of that size after the function is compiled;
compiling is a column of its own. Ours is `inference.sampler.generate_images`, compiled for the
batch; the sampler itself always uses batches of 4.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
from direct_step import VOCABULARY, first_state, make_config, noise_batch
from reference_process import ReferenceProcess

from ssagan_jax.inference.sampler import generate_images, generation_variables
from ssagan_jax.models.vocabulary import Vocabulary
from ssagan_jax.steps.networks import build_networks

HEADER = ("channels", "batch", "ours img/s", "reference img/s", "ratio", "ours first ms")
HEADER += ("reference first ms", "ours / reference CPU ms", "compiled in s")


def measure(flags: argparse.Namespace, channels: int, batch: int) -> tuple[object, ...]:
    """A row of the table."""
    config = make_config(flags.image_size, channels, max(batch, 2), "float32")
    variables = generation_variables(first_state(config))
    rows = noise_batch(config)
    tokens, mask = rows["tokens"][:batch], rows["mask"][:batch]
    noise = np.random.default_rng(0).normal(size=(batch, config.generator.noise_dim))
    inputs = (tokens, mask, noise.astype(np.float32))
    networks = build_networks(config, Vocabulary(VOCABULARY))
    start = time.perf_counter()
    function = jax.jit(functools.partial(generate_images, networks))
    compiled = function.lower(variables, *inputs).compile()
    seconds = time.perf_counter() - start
    reference = None
    if flags.reference:
        cuda = jax.default_backend() == "gpu"
        reference = ReferenceProcess(flags.reference, channels, batch, cuda, tf32=True)
    try:
        ours, theirs = [], []
        for turn in range(flags.rounds + 1):
            measured = []
            for _ in range(flags.batches):
                wall, cpu = time.perf_counter(), time.process_time()
                np.asarray(compiled(variables, *inputs)[0])
                measured.append((time.perf_counter() - wall, time.process_time() - cpu))
            others = reference.ask(f"paint {flags.batches}") if reference else []
            if turn:  # The first one warms up.
                ours, theirs = ours + measured, theirs + others
    finally:
        if reference:
            reference.close()
    wall, cpu = (statistics.median(part) for part in zip(*ours, strict=True))
    row = [channels, batch, f"{batch / wall:.2f}"]
    if not theirs:
        return *row, "", "", f"{wall * 1e3:.1f}", "", f"{cpu * 1e3:.1f}", f"{seconds:.0f}"
    their_wall, their_cpu = (statistics.median(part) for part in zip(*theirs, strict=True))
    row += [f"{batch / their_wall:.2f}", f"{their_wall / wall:.2f}", f"{wall * 1e3:.1f}"]
    row += [f"{their_wall * 1e3:.1f}", f"{cpu * 1e3:.1f} / {their_cpu * 1e3:.1f}"]
    return *row, f"{seconds:.0f}"


def main() -> None:
    """Prints a row for each combination as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, help="checkout of wtliao/text2image")
    parser.add_argument("--channels", nargs="+", type=int, default=[32])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--image_size", type=int, default=256, help="the reference knows only 256")
    parser.add_argument("--batches", type=int, default=3, help="in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    flags = parser.parse_args()
    if flags.reference and flags.image_size != 256:
        parser.error("--image_size: must be 256 beside the reference")
    print(f"{flags.image_size} px, {jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}", flush=True)
    for channels in flags.channels:
        for batch in flags.batch_sizes:
            print(f"| {' | '.join(map(str, measure(flags, channels, batch)))} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
