"""Scores a trained model: `python -m ssagan_jax.evaluate --workdir=runs/quickstart`.

The toy cars' attributes are read off the generated pictures by rule.
"""

import argparse
import json
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging

from ssagan_jax.data.pipeline import Record, evaluation_batches
from ssagan_jax.data.sources import open_pictures
from ssagan_jax.failures import told
from ssagan_jax.metrics.toy_car_attributes import body_color, facing
from ssagan_jax.trained import Trained, check_seed, open_trained
from ssagan_jax.workdir import Workdir

_BATCH = 16


def attribute_accuracy(
    trained: Trained, pictures: Sequence[Record], seed: int = 0
) -> dict[str, float]:
    """Share of toy cars painted as their caption says.

    Each picture's first caption is painted once. A caption counts for an attribute if it names it.

    Args:
      trained: the model.
      pictures: records of toy cars.
      seed: of the noise.

    Returns:
      "attributes/color" and "attributes/facing" in [0, 1], and "attributes/captions", how many.
    """
    config = trained.config
    right: dict[str, list[bool]] = {"color": [], "facing": []}
    batches = evaluation_batches(
        pictures,
        trained.tokenizer,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        batch_size=_BATCH,
    )
    for index, (batch, records) in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(seed), index)
        noise = jax.random.normal(key, (len(records), config.generator.noise_dim))
        images, _ = trained.painter(trained.state, batch["tokens"], batch["mask"], noise)
        for name, rule in (("color", body_color), ("facing", facing)):
            for record, seen in zip(records, rule(images), strict=True):
                wanted = record["attributes"][name]
                if wanted in record["captions"][0].lower():
                    right[name].append(seen == wanted)
    scores = {f"attributes/{name}": float(np.mean(hits)) for name, hits in right.items() if hits}
    return scores | {"attributes/captions": float(len(right["color"]))}


def score(trained: Trained, pictures: Sequence[Record], seed: int = 0) -> dict[str, float]:
    """All scores that the data allow; each set of them is a row of eval/metrics.jsonl."""
    if trained.config.data.name != "toy_cars":
        return {}
    scores = attribute_accuracy(trained, pictures, seed)
    file = trained.workdir.path / "eval" / "metrics.jsonl"
    file.parent.mkdir(exist_ok=True)
    row = {"step": int(trained.state.step), "split": "validation", "seed": seed} | scores
    with open(file, "a", encoding="utf-8") as rows:
        rows.write(json.dumps(row) + "\n")
    return scores


def saved_scores(workdir: Workdir, step: int) -> dict[str, float]:
    """The latest scores of a checkpoint in eval/metrics.jsonl, {} where there are none."""
    file = workdir.path / "eval" / "metrics.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    scores = [row for row in map(json.loads, rows) if row["step"] == step]
    return {name: value for name, value in scores[-1].items() if "/" in name} if scores else {}


def described(scores: dict[str, float]) -> str:
    """Scores as lines to read."""
    return "\n".join(f"{name:22} {value:.3f}" for name, value in scores.items())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ssagan_jax.evaluate", description=__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a trained model")
    parser.add_argument("--checkpoint", type=int, help="step of the checkpoint; default: latest")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with told():
        check_seed(flags.seed)
        trained = open_trained(flags.workdir, flags.checkpoint)
        trained.workdir.check_generator()
        pictures = open_pictures(trained.config, ["validation"])["validation"]
        scores = score(trained, pictures, flags.seed)
        print(described(scores) or f"no scores for {trained.config.data.name} yet")


if __name__ == "__main__":
    main()
