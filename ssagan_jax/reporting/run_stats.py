"""Time, memory, sizes and config differences of runs, side by side."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from ssagan_jax.config import default_config, flatten
from ssagan_jax.reporting.runs import ReportedRun
from ssagan_jax.steps.state import abstract_state

# Label, and the value for each run.
Lines = list[tuple[str, list[str]]]


def count_parameters(run: ReportedRun) -> dict[str, int]:
    """Parameters of each network, from shapes alone."""
    state = abstract_state(run.config, run.workdir.tokenizer())
    networks = {
        "text encoder": state.encoders["text"],
        "image encoder": (state.encoders["image"], state.trunk),
        "generator": state.generator,
        "discriminator": state.discriminator,
    }
    return {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        for name, tree in networks.items()
    }


def seconds_per_epoch(run: ReportedRun) -> float:
    """Median of the measured windows of stage 2, so that one with an interruption counts little."""
    return float(np.median(list(run.scalar("time/seconds_per_epoch").values())))


def training_stats(runs: Sequence[ReportedRun]) -> Lines:
    """Time, memory and sizes of runs."""
    seconds = [seconds_per_epoch(run) for run in runs]
    images_per_second = [
        run.schedule.steps_per_epoch * run.config.train.batch_size / each
        for run, each in zip(runs, seconds, strict=True)
    ]
    lines = [
        ("devices", [run.latest_text("devices") or "unknown" for run in runs]),
        ("image size", [f"{run.config.data.image_size} px" for run in runs]),
        ("batch size", [f"{run.config.train.batch_size}" for run in runs]),
        ("GAN epochs trained", [f"{max(run.scalar('time/epoch').values()):.1f}" for run in runs]),
        ("seconds per epoch", [f"{each:.1f}" for each in seconds]),
        ("images per second", [f"{each:.1f}" for each in images_per_second]),
        ("peak memory", [_peak_memory(run) for run in runs]),
    ]
    sizes = [count_parameters(run) for run in runs]
    lines += [(f"parameters, {name}", [f"{size[name]:,}" for size in sizes]) for name in sizes[0]]
    lines.append(("parameters, total", [f"{sum(size.values()):,}" for size in sizes]))
    return lines


def _peak_memory(run: ReportedRun) -> str:
    for name, label in (("device", "one device"), ("process", "the process")):
        if peaks := run.scalar(f"memory/{name}_peak_mib"):
            return f"{max(peaks.values()):,.0f} MiB of {label}"
    return "unknown"


def differing_keys(runs: Sequence[ReportedRun]) -> tuple[list[str], Lines]:
    """Column names, and the config keys that differ between runs with their values.

    A single run is compared with the defaults.
    """
    columns = [(run.method, flatten(run.config)) for run in runs]
    if len(runs) == 1:
        columns.insert(0, ("default", flatten(default_config())))
    names, values = zip(*columns, strict=True)
    rows = [(key, [each[key] for each in values]) for key in values[0]]
    return list(names), [
        (key, list(map(repr, row))) for key, row in rows if any(value != row[0] for value in row)
    ]
