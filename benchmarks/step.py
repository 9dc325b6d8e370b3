"""A GAN step of ours and an iteration of the PyTorch reference, side by side: a Markdown table.

    python benchmarks/step.py --reference=DIR --channels 16 32 64 --batch_sizes 16 64 \
        --precisions float32 tf32 bfloat16

DIR is a checkout of github.com/wtliao/text2image; without it only ours is timed. Both train on the
same sizes: the reference by its own loop with its two updates of the discriminator, ours with its
one (or `--updates=2`), both with a small image encoder in place of Inception v3. They take turns,
each in its process, so other load affects both. The reference has no mixed precision: beside
bfloat16 it computes in TF32, which is its best.

Columns: images per second of both, their ratio; CPU seconds of a step of both (on a CPU); TFLOP of
our step by its matrix products and convolutions (`flops.py`) and by XLA's analysis; share of the
device's peak for the precision, or on a CPU of the speed of a large matrix product; MiB that XLA
reserves for our step, and the reference's peak; seconds to compile ours. `--profile` adds the
operations that take the time.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # The reference needs memory too.

import jax
import jax.numpy as jnp
from direct_step import DirectStep, make_config, step_function
from flops import count_flops, peak_tflops
from profile_table import profile_table
from reference_process import ReferenceError, ReferenceProcess

from ssagan_jax.errors import is_out_of_memory
from ssagan_jax.steps.memory import step_memory

HEADER = ("channels", "batch", "precision", "ours img/s", "reference img/s", "ratio")
HEADER += ("ours / reference CPU s", "TFLOP", "by XLA", "TFLOP/s", "share of peak")
HEADER += ("ours / reference MiB", "compiled in s")
# Precision of float32 products (of jax), and the activations' type.
PRECISIONS = {
    "float32": ("highest", "float32"),
    "tf32": ("tensorfloat32", "float32"),
    "bfloat16": ("tensorfloat32", "bfloat16"),
}


def matmul_tflops(size: int = 1536) -> float:
    """Speed of a float32 product of square matrices, the best of five, in 1e12 per second."""
    matrix = jnp.ones((size, size))
    multiply = jax.jit(lambda x: x @ x)
    multiply(matrix).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        multiply(matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e12


def measure(
    flags: argparse.Namespace, channels: int, batch: int, precision: str
) -> tuple[tuple[object, ...], str]:
    """A row of the table, and the profile's table or ""."""
    products, dtype = PRECISIONS[precision]
    jax.config.update("jax_default_matmul_precision", products)
    config = make_config(flags.image_size, channels, batch, dtype)
    config.discriminator.updates = flags.updates
    cuda = jax.default_backend() == "gpu"
    reference = None
    if flags.reference:
        tf32 = precision != "float32"
        reference = ReferenceProcess(flags.reference, channels, batch, cuda, tf32)
    try:
        ours = DirectStep(config)
        ours.run(flags.warm_up)
        failure = _ask(reference, f"train {flags.warm_up}")
        times, others = [], []
        for _ in range(flags.rounds):
            times += [[part / flags.steps for part in ours.run(flags.steps)]]
            if reference and not isinstance(failure, ReferenceError):
                others += reference.ask(f"train {flags.steps}")
        their_memory = reference.ask("memory") / 2**20 if others else None
    finally:
        if reference:
            reference.close()
    shapes = jax.eval_shape(lambda: (ours.state, ours.batch))
    flop = count_flops(step_function(config, None), *shapes) / 1e12
    wall, cpu = (statistics.median(part) for part in zip(*times, strict=True))
    peak = matmul_tflops() if jax.default_backend() == "cpu" else None
    peak = peak or peak_tflops(jax.devices()[0].device_kind, precision)
    their_wall, their_cpu = (
        (statistics.median(part) for part in zip(*others, strict=True)) if others else (None, None)
    )
    memory = step_memory(ours.compiled)
    analysis = ours.compiled.cost_analysis() or {}
    row = (
        *(channels, batch, precision, f"{batch / wall:.2f}"),
        f"{batch / their_wall:.2f}" if others else failure or "",
        f"{their_wall / wall:.2f}" if others else "",
        f"{cpu:.2f} / {their_cpu:.2f}" if others else f"{cpu:.2f}",
        f"{flop:.4f}",
        f"{analysis.get('flops', float('nan')) / 1e12:.4f}",
        f"{flop / wall:.2f}",
        f"{flop / wall / peak:.0%}" if peak else "",
        f"{memory['total'] / 2**20:.0f}" + (f" / {their_memory:.0f}" if others else ""),
        f"{ours.compile_seconds:.0f}",
    )
    return row, profile_table(ours) if flags.profile else ""


def _ask(reference: ReferenceProcess | None, command: str) -> ReferenceError | None:
    """Asks, and returns what went wrong, such as too little memory."""
    try:
        if reference:
            reference.ask(command)
    except ReferenceError as error:
        return error
    return None


def main() -> None:
    """Prints a row for each combination as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, help="checkout of wtliao/text2image")
    parser.add_argument("--channels", nargs="+", type=int, default=[32])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[4])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--image_size", type=int, default=256, help="the reference knows only 256")
    parser.add_argument("--updates", type=int, choices=(1, 2), default=1)
    parser.add_argument("--warm_up", type=int, default=2, help="steps before the first one timed")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--profile", action="store_true")
    flags = parser.parse_args()
    if flags.reference and flags.image_size != 256:
        parser.error("--image_size: must be 256 beside the reference")
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    print(f"{flags.image_size} px, {devices}\n", flush=True)
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}", flush=True)
    profiles = []
    for channels in flags.channels:
        for batch in flags.batch_sizes:
            for precision in flags.precisions:
                try:
                    row, profile = measure(flags, channels, batch, precision)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    row, profile = (channels, batch, precision, "out of memory"), ""
                print(f"| {' | '.join(map(str, row))} |", flush=True)
                profiles += [f"{channels} channels, batch {batch}, {precision}\n\n{profile}"]
    if flags.profile:
        print("\n" + "\n".join(profiles))


if __name__ == "__main__":
    sys.exit(main())
