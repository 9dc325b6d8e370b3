"""Memory of a compiled GAN step on each device, by XLA's analysis: a Markdown table.

    python benchmarks/memory.py --config=configs/lstm.py
    python benchmarks/memory.py --config=configs/bert.py --dtypes bfloat16 --remat on

Nothing is trained: the step is compiled for shapes, on virtual CPU devices, and XLA reports the
memory that it would need. What is written differently for CPUs (strided convolutions, sums over
positions, microbatches) is compiled as on accelerators, unless `--as_on_cpus` is given. Scratch
space of library kernels is not included.
"""

import argparse
import copy
import functools
import itertools
import os
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax
    from ml_collections import ConfigDict

HEADER = (
    ("config", "pixels", "batch", "devices", "dtype", "remat", "accumulate")
    + ("arguments MiB", "outputs MiB", "aliased MiB", "temporary MiB", "total MiB")
    + ("TFLOP", "compiled in s")
)
VOCABULARY = 5000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/lstm.py"))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--remat", nargs="+", default=["off", "on"], choices=["off", "on"])
    parser.add_argument("--accumulate", nargs="+", type=int, default=[1])
    parser.add_argument("--batch_size", type=int, default=16, help="over all devices")
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--channels", type=int, help="of all networks; default: the config's")
    parser.add_argument("--as_on_cpus", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Prints one row per combination of options as soon as it is compiled."""
    arguments = _arguments()
    # Before jax is imported. The default scheduler keeps more buffers alive for the CPU's threads.
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={arguments.devices} "
        "--xla_cpu_enable_concurrency_optimized_scheduler=false"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}", flush=True)
    for row in _rows(arguments):
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def _rows(arguments: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    import jax

    from ssagan_jax.steps.memory import step_memory

    if not arguments.as_on_cpus:
        jax.default_backend = lambda: "gpu"
    base = runpy.run_path(str(arguments.config))["get_config"]()
    base.data.image_size = arguments.image_size
    base.train.batch_size = arguments.batch_size
    if arguments.channels:
        base.generator.channels = base.discriminator.channels = arguments.channels
        base.image_encoder.channels = arguments.channels
    for dtype, remat, accumulate in itertools.product(
        arguments.dtypes, arguments.remat, arguments.accumulate
    ):
        config = copy.deepcopy(base)
        config.train.compute_dtype, config.train.remat = dtype, remat == "on"
        config.train.grad_accumulation_steps = accumulate
        sizes = (arguments.image_size, arguments.batch_size, arguments.devices)
        start = time.perf_counter()
        compiled = _compiled(config)
        seconds = time.perf_counter() - start
        yield (
            *(arguments.config.stem, *sizes, dtype, remat, accumulate),
            *(f"{size / 2**20:.0f}" for size in step_memory(compiled).values()),
            f"{compiled.cost_analysis()['flops'] / 1e12:.2f}",
            f"{seconds:.0f}",
        )


def _compiled(config: "ConfigDict") -> "jax.stages.Compiled":
    import jax
    import numpy as np

    from ssagan_jax.models.vocabulary import Vocabulary
    from ssagan_jax.steps.gan_step import gan_step
    from ssagan_jax.steps.networks import build_networks
    from ssagan_jax.steps.optimizers import build_optimizers
    from ssagan_jax.steps.pmap import BATCH_AXIS, PmapStep
    from ssagan_jax.steps.state import StepContext, begin_gan_stage, initial_state

    vocabulary, optimizers = Vocabulary(VOCABULARY), build_optimizers(config, 1)
    state = jax.eval_shape(lambda: begin_gan_stage(initial_state(config, vocabulary), optimizers))
    mesh = jax.sharding.Mesh(jax.local_devices(), (BATCH_AXIS,))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated), state
    )
    rows, words, size = config.train.batch_size, config.data.max_words, config.data.image_size
    batch = {
        "image": np.zeros((rows, size, size, 3), np.uint8),
        "tokens": np.zeros((rows, words), np.int32),
        "mask": np.zeros((rows, words), bool),
        "class_id": np.zeros(rows, np.int32),
    }
    networks = build_networks(config, vocabulary, BATCH_AXIS)
    step = functools.partial(gan_step, StepContext(config, networks, optimizers))
    return PmapStep(step).compile(state, batch)


if __name__ == "__main__":
    sys.exit(main())
