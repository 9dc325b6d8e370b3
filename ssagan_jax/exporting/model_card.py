"""The model card: a README.md with the YAML front matter of the Hugging Face hub."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import ssagan_jax
from ssagan_jax.config import default_config, flatten
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.scores import Score, read_scores
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.inference.model_folder import SAMPLES
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.reporting.score_table import Row, ScoreTable
from ssagan_jax.steps.ema import has_ema
from ssagan_jax.workdir import Workdir

_ENCODERS = {"lstm": "a bidirectional LSTM", "bert": "BERT"}
_GRID_CAPTIONS, _GRID_IMAGES, _GRID_SEED = 6, 4, 0
_SAMPLES = f"""
![Images generated from captions]({SAMPLES})

*{_GRID_IMAGES} images for each of the first example captions, not selected (seed {_GRID_SEED}).*
"""
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")

_TEMPLATE = Path(__file__).with_name("model_card.md")


def check_license(license_id: str | None) -> None:
    """Raises InputError if this cannot be a license's identifier on the hub."""
    if license_id is not None and not _LICENSE.fullmatch(license_id):
        raise InputError(
            f"--license={license_id!r}: must be an identifier of the hub, such as cc-by-4.0, "
            "apache-2.0 or other"
        )


def draw_samples(model: TrainedModel) -> Image.Image | None:
    """A grid of generated images for the example captions; None if there are none."""
    captions = list(dict.fromkeys(model.example_captions))[:_GRID_CAPTIONS]
    if not captions:
        return None
    images = model.paint(captions, _GRID_IMAGES, _GRID_SEED)
    rows = [list(map(np.asarray, row)) for row in images]
    return draw_image_grid(list(zip(captions, rows, strict=True)), ())


def write_model_card(
    workdir: Workdir, model: TrainedModel, source: str, license_id: str | None, dtype: str
) -> str:
    """The model card's text.

    Args:
      workdir: of the run.
      model: loaded from it.
      source: what a reader gives to `load_model`: a folder's name or "USER/NAME".
      license_id: the license that the user names, or None.
      dtype: of the stored parameters.
    """
    config = model.config
    front = {
        "license": license_id,
        "library_name": "ssagan_jax",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "gan", "ssa-gan", "jax", "flax"],
    }
    scores = read_scores(workdir, "validation").get(model.step, {})
    example = (*model.example_captions, "a red car")[0]
    return _TEMPLATE.read_text(encoding="utf-8").format(
        front_matter="\n".join(f"{k}: {json.dumps(value)}" for k, value in front.items() if value),
        title=re.sub(r"[^\w.-]", "-", source.rpartition("/")[2]),
        size=config.data.image_size,
        encoder=_ENCODERS[config.text_encoder.name],
        data=config.data.name,
        version=ssagan_jax.__version__,
        samples=_SAMPLES if model.example_captions else "",
        source=re.sub(r'["\\\n]', "", source),
        example=re.sub(r'["\\\n]', "", example),
        dtype=dtype,
        training=_rows(_training(workdir, model)),
        config=_rows(_differing_keys(model)),
        scores=_scores(workdir, model, scores),
        vocabulary=_vocabulary(model.tokenizer),
        max_words=config.data.max_words,
        unit="word pieces" if model.tokenizer.kind == "wordpiece" else "words",
        copying="see the nearest training picture among the scores"
        if "nearest_training_picture" in scores
        else "this was not measured",
        license=f"`{license_id}`, as named by the exporting user. The data has its own terms."
        if license_id
        else "None was named; ask whoever gave you the model.",
    )


def _training(workdir: Workdir, model: TrainedModel) -> list[tuple[str, str]]:
    config, schedule = model.config, workdir.schedule()
    counts = workdir.dataset_counts()
    data = [
        (f"{split} data", f"{each['images']:,} images with {each['captions']:,} captions")
        for split, each in counts.items()
    ]
    if not data and not workdir.converted():
        images = schedule.steps_per_epoch * config.train.batch_size
        data = [("train data", f"{images:,} images, up to one batch")]
    if workdir.converted():
        steps = "converted from PyTorch weights"
    else:
        steps = (
            f"{schedule.damsm_steps:,} steps of both encoders (DAMSM), then "
            f"{model.step - schedule.damsm_steps:,} of the GAN "
            f"({schedule.gan_epoch(model.step):.1f} epochs), {config.train.batch_size} images each"
        )
    averaged = has_ema(config)
    sizes = {
        "generator": model.variables["generator"]["params"],
        "text encoder": model.variables["text"],
    }
    return [
        *data,
        ("steps", steps),
        ("weights", "moving average of the generator's" if averaged else "of the last step"),
        *((f"parameters, {name}", f"{_count(tree):,}") for name, tree in sizes.items()),
    ]


def _count(tree: Any) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))


def _differing_keys(model: TrainedModel) -> list[tuple[str, str]]:
    """Config keys that differ from the defaults, but for paths, which are of one machine."""
    defaults, paths = flatten(default_config()), ("dir", "checkpoint", "weights", "pretrained")
    return [
        (f"`{key}`", f"`{json.dumps(value)}`")
        for key, value in flatten(model.config).items()
        if value != defaults[key]
        and not key.endswith(paths)
        and not key.startswith(("log.", "eval."))
    ]


def _rows(lines: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {label} | {value} |" for label, value in lines)


def _scores(workdir: Workdir, model: TrainedModel, scores: dict[str, Score]) -> str:
    """Every score of the checkpoint with its recipe; what all recipes share is said once."""
    if not scores:
        return "This checkpoint was not scored."
    row = Row("this model", workdir.schedule().gan_epoch(model.step), model.step, scores)
    table = ScoreTable([row])
    recipes = {name: _recipe(score) for name, score in scores.items()}
    shared = set.intersection(*map(set, recipes.values()))
    lines = [
        f"| {table.column(name).label} | {table.text(row, name)} | "
        f"{'; '.join(part for part in recipes[name] if part not in shared)} |"
        for name in table.names
        if name in scores
    ]
    first = next(iter(recipes.values()))
    notes = [*table.notes, "All: " + "; ".join(part for part in first if part in shared) + "."]
    return "\n".join(
        [
            "| score | value | recipe |",
            "| --- | --- | --- |",
            *lines,
            "",
            *(f"- {n}" for n in notes),
        ]
    )


def _recipe(score: Score) -> list[str]:
    """The recipe's parts as text for a table's cell."""
    parts = []
    for key, value in score.recipe.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            parts.append(f"{key}: {text}".replace("|", "\\|").replace("<", "&lt;"))
    return parts


def _vocabulary(tokenizer: Tokenizer) -> str:
    if tokenizer.kind == "wordpiece":
        return f"{tokenizer.vocabulary.size:,} word pieces; the rarer a word, the less it means"
    if tokenizer.kind == "listed_words":
        return f"{tokenizer.vocabulary.size - 1:,} words; others are ignored"
    return f"{tokenizer.vocabulary.size - 2:,} words; others are all the same to it"
