"""What each part of the small-data recipe does: runs of equal length, a table and a picture.

    python benchmarks/ablation.py --output=runs/ablation --minutes=10 --seeds 0 1
    python benchmarks/ablation.py --output=runs/birds --name=birds --data_dir=DIR --minutes=60

Trains configs/quickstart.py with the paper's values, the paper's with each part of the recipe, the
whole recipe, and it without each part (`--recipes` chooses some of them), every run for the same
wall time: on a machine that does nothing else, stage 1, compiling and starting included. Then each
is scored. If it is interrupted, run the same command to resume; a run's time is the sum over its
processes. Writes `ablation.md` and `ablation.png`, which has a column for each recipe.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssagan_jax import load_model
from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.config import default_config, flatten
from ssagan_jax.config.recipes import set_drawings_recipe, set_small_data_recipe
from ssagan_jax.evaluation.scores import read_scores
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]
# Keys of the recipe that belong together, by what they do.
PARTS = {
    "encoders": ("image_encoder.pooling", "damsm.batch_size", "loss.damsm_words", "loss.gamma3"),
    "normalize": ("text_encoder.normalize",),
    "frozen": ("train.encoders",),
    "guide": ("loss.damsm_weight_start", "loss.damsm_weight", "loss.damsm_decay_steps"),
    "mismatched": ("loss.mismatched", "loss.num_mismatched"),
    "gains": ("generator.residual_gain", "discriminator.residual_gain"),
    # The contrastive loss needs the inner product, and its further captions need the queue.
    "projection": (
        "discriminator.projection_channels",
        "discriminator.concat_sentence",
        "loss.contrastive_weight",
        "loss.contrastive_gamma",
        "loss.contrastive_captions",
        "loss.sentence_queue",
    ),
    "variety": ("discriminator.minibatch_stddev", "loss.diversity_weight"),
    "bilinear": ("generator.upsampling",),
    "rates": ("generator.learning_rate", "discriminator.learning_rate"),
    "average": ("train.ema_half_life",),
    "augment": ("augment.policy",),
}
# Scores in the table, where a run has them.
SCORES = ("attributes/color", "attributes/facing", "attributes/body", "encoder_frechet")
SCORES += ("kid", "r_precision", "diversity", "nearest_training_picture")
# Far more steps than a run can take; its time ends it.
_MANY_STEPS = 1_000_000


def recipes(name: str) -> dict[str, dict[str, Any]]:
    """Values of config keys that differ from configs/quickstart.py:NAME, by the recipe's name."""
    config = set_small_data_recipe(default_config())
    if name == "toy_cars":
        set_drawings_recipe(config)
    paper, whole = flatten(default_config()), flatten(config)
    differing = {key for key in paper if paper[key] != whole[key]}
    if unknown := differing - {key for keys in PARTS.values() for key in keys}:
        raise ValueError(f"the recipe has {sorted(unknown)}, which PARTS lacks")
    values = {
        part: {key: paper[key] for key in keys if key in differing} for part, keys in PARTS.items()
    }
    parts = [part for part in PARTS if values[part]]

    def without(*names: str) -> dict[str, Any]:
        return {key: value for part in names for key, value in values[part].items()}

    found = {"paper": without(*parts)}
    found |= {f"paper + {part}": without(*(p for p in parts if p != part)) for part in parts}
    found |= {"recipe": {}} | {f"recipe - {part}": without(part) for part in parts}
    if "augment" not in parts:
        found["recipe + augment"] = {"augment.policy": "translation,cutout"}
    found |= {"recipe + LeCam": {"loss.lecam_weight": 0.1}}
    return found | {"recipe + rare MA-GP": {"loss.magp_every": 4}}


def train(flags: argparse.Namespace, workdir: Path, values: dict[str, Any], seed: int) -> None:
    """Trains until the run has had its time, and scores its last checkpoint."""
    clock = workdir.with_suffix(".json")
    seconds = json.loads(clock.read_text())["seconds"] if clock.exists() else 0.0
    left = 60 * flags.minutes - seconds
    options = {"seed": seed, "train.steps": _MANY_STEPS, "log.sample_grid_every": _MANY_STEPS}
    options |= {"data.dir": flags.data_dir} | values
    if left > 0:
        command = [sys.executable, "-m", "ssagan_jax.main"]
        command += [f"--config=configs/quickstart.py:{flags.name}", f"--workdir={workdir}"]
        command += [f"--config.{key}={value}" for key, value in options.items()]
        start = time.monotonic()
        try:
            _run_for(command, left)
        finally:
            # Interrupted, the run has saved a checkpoint.
            seconds += time.monotonic() - start
            write_atomically(clock, json.dumps({"seconds": seconds}))
    if Workdir(workdir).checkpoint_steps()[-1] not in read_scores(Workdir(workdir), "validation"):
        command = [sys.executable, "-m", "ssagan_jax.evaluate", f"--workdir={workdir}"]
        subprocess.run([*command, f"--num={flags.num}"], cwd=ROOT, check=True)


def _run_for(command: list[str], seconds: float) -> None:
    """Runs a training, and asks it to stop, with a checkpoint, after some seconds."""
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    finally:
        process.wait()
    if process.returncode != 128 + signal.SIGTERM:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")


def table(runs: dict[tuple[str, int], Path]) -> str:
    """A Markdown table with a row for each run."""
    scores = {run: read_scores(Workdir(path), "validation") for run, path in runs.items()}
    latest = {run: found[max(found)] for run, found in scores.items()}
    names = [name for name in SCORES if any(name in found for found in latest.values())]
    header = ["recipe", "seed", "GAN steps", *names]
    lines = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
    for (recipe, seed), path in runs.items():
        found = latest[recipe, seed]
        gan_steps = max(scores[recipe, seed]) - Workdir(path).schedule().damsm_steps
        values = [f"{found[name].value:.3g}" if name in found else "" for name in names]
        lines.append(f"| {recipe} | {seed} | {max(gan_steps, 0)} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def picture(runs: dict[tuple[str, int], Path], seed: int) -> Image.Image:
    """Images of the same captions and noises by each recipe."""
    columns = {recipe: path for (recipe, run_seed), path in runs.items() if run_seed == seed}
    captions = list(load_model(next(iter(columns.values()))).example_captions)
    images = [load_model(path).paint(captions) for path in columns.values()]
    rows = [
        (caption, [np.asarray(column[row][0]) for column in images])
        for row, caption in enumerate(captions)
    ]
    return draw_image_grid(rows, list(columns))


def main() -> None:
    """Trains what is missing, writes the table after every run, and at the end the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--name", default="toy_cars", help="data set, as in configs/quickstart.py")
    parser.add_argument("--data_dir", default="", help="config.data.dir of the data set")
    parser.add_argument("--minutes", type=float, default=10, help="wall time of each run")
    parser.add_argument("--num", type=int, default=800, help="images of the scores")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", help="some of them (default: all)")
    flags = parser.parse_args()
    known = recipes(flags.name)
    flags.recipes = flags.recipes or list(known)
    if unknown := set(flags.recipes) - set(known):
        parser.error(f"--recipes: {sorted(unknown)} are none of {', '.join(known)}")
    runs = {}
    for seed in flags.seeds:
        for recipe in flags.recipes:
            path = flags.output.absolute() / f"{recipe.replace(' ', '_')}_seed_{seed}"
            train(flags, path, known[recipe], seed)
            runs[recipe, seed] = path
            write_atomically(flags.output / "ablation.md", table(runs))
    picture(runs, flags.seeds[0]).save(flags.output / "ablation.png")
    print((flags.output / "ablation.md").read_text(), end="")


if __name__ == "__main__":
    main()
