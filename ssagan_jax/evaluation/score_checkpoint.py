"""Assembles the scores of one checkpoint."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import numpy as np

from ssagan_jax import __version__
from ssagan_jax.config.validation import MIN_IMAGES
from ssagan_jax.evaluation.collect_features import (
    GeneratedFeatures,
    PairFeatures,
    diversity_features,
    generated_features,
    nearest_training_images,
    real_features,
    real_inception_stats,
)
from ssagan_jax.evaluation.encoder_features import encoder_recipe
from ssagan_jax.evaluation.eval_context import CheckpointFunctions, EvalContext, EvalRequest
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.metrics import kid, precision_recall, retrieval
from ssagan_jax.metrics.diversity import mean_pairwise_distance
from ssagan_jax.metrics.features import FeatureNetwork, FeatureStats
from ssagan_jax.metrics.fid import frechet_distance
from ssagan_jax.metrics.nearest import Nearest
from ssagan_jax.steps.pmap import replicate
from ssagan_jax.steps.state import TrainState

# Computed if there are Inception's weights.
INCEPTION_SCORES = ("inception_score", "fid", "kid", "precision", "recall")

# Name, value, standard deviation, and what is special in the recipe.
_Result = tuple[str, float, float | None, dict[str, Any]]


def score_checkpoint(context: EvalContext, state: TrainState, request: EvalRequest) -> list[Score]:
    """Computes all scores that data and weights allow.

    A checkpoint of the encoders' stage is scored only by how well its encoders retrieve.
    """
    step, config = int(state.step), context.config
    default_num = config.eval.num or len(context.datasets[request.split])
    request = dataclasses.replace(request, num=request.num or default_num)
    state = replicate(state)
    functions = context.functions(state, request.seed)
    encoder = encoder_recipe(config, state)
    real, pixels_sha256 = real_features(context, functions, request.split)
    results: list[_Result] = []
    stage, epoch = "encoders", context.schedule.gan_epoch(step)
    if context.schedule.is_generator_trained(step):
        stage = "gan"
        results += _generator_scores(context, functions, request, real, pixels_sha256, encoder)
    for name, value in retrieval.retrieval(real.codes.features, real.sentences.rows()).items():
        results.append((name, value, None, encoder | {"num_generated": 0}))
    common = _common_recipe(context, state, request, real.codes.moments.count, pixels_sha256)
    return [
        Score(step, epoch, stage, request.split, name, float(value), std, common | recipe)
        for name, value, std, recipe in results
        if context.has_image_encoder or recipe["features"] != encoder["features"]
    ]


def _generator_scores(
    context: EvalContext,
    functions: CheckpointFunctions,
    request: EvalRequest,
    real: PairFeatures,
    pixels_sha256: str,
    encoder: dict[str, Any],
) -> Iterator[_Result]:
    generated = generated_features(context, functions, request)
    network, config = context.inception, context.config.eval
    if min(request.num, real.codes.moments.count) >= MIN_IMAGES:
        if network:
            stats = real_inception_stats(context, functions, request.split, pixels_sha256)
            yield from _inception_scores(network, config.inception_variant, generated, stats)
        distance = frechet_distance(generated.pairs.codes.moments, real.codes.moments)
        yield "encoder_frechet", distance, None, encoder
    yield from _r_precision(generated.pairs, real, encoder)
    for name, hits in generated.attribute_hits.items():
        if hits:
            recipe = {"features": "rules, nothing learned", "num_captions": len(hits)}
            yield f"attributes/{name}", np.mean(hits), None, recipe
    features = diversity_features(context, functions, request)
    recipe = network.recipe_of("pooled") if network else encoder
    counts = {"num_generated": features.shape[0] * features.shape[1], "captions": len(features)}
    yield "diversity", mean_pairwise_distance(features), None, recipe | counts
    codes = generated.pairs.codes.features
    if config.nearest and np.isfinite(codes).all():
        nearest = nearest_training_images(context, functions, codes, real.codes.features)
        recipe = encoder | {"num_real": len(context.datasets["train"])}
        yield _nearest(*nearest, generated.captions.rows(), recipe)


def _common_recipe(
    context: EvalContext, state: TrainState, request: EvalRequest, num_real: int, sha256: str
) -> dict[str, Any]:
    """What the recipes of all scores of a checkpoint share, and the order of their keys."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    return {
        "num_real": num_real,
        "num_generated": request.num,
        "split": request.split,
        "image_size": context.config.data.image_size,
        "features": None,
        "weights_sha256": None,
        "resize": None,
        "value_range": "0..255",
        "checkpoint": int(state.step),
        "weights": "raw" if state.ema is None else "average",
        "seed": request.seed,
        "real_statistics": sha256,
        "versions": {"ssagan_jax": __version__} | packages,
    }


def _inception_scores(
    network: FeatureNetwork, variant: str, generated: GeneratedFeatures, real: FeatureStats
) -> Iterator[_Result]:
    suffix = "" if variant == "fid" else f"_{variant}"
    score, std = generated.inception_score.result()
    recipe = network.recipe_of("logits") | {"splits": generated.inception_score.splits}
    yield f"inception_score{suffix}", score, std, recipe
    recipe = network.recipe_of("pooled")
    fid = frechet_distance(generated.inception.moments, real.moments)
    yield f"fid{suffix}", fid, None, recipe
    features = generated.inception.features, real.features
    counts = [len(rows) for rows in features]
    recipe |= {"rows": counts}
    distance, std = kid.kernel_inception_distance(*features)
    subsets = {"subsets": kid.SUBSETS, "subset_size": kid.subset_size(*counts)}
    yield f"kid{suffix}", distance, std, recipe | subsets
    shares = precision_recall.precision_recall(*features)
    for name, share in zip(("precision", "recall"), shares, strict=True):
        yield f"{name}{suffix}", share, None, recipe | {"neighbors": precision_recall.NEIGHBORS}


def _r_precision(
    generated: PairFeatures, real: PairFeatures, recipe: dict[str, Any]
) -> Iterator[_Result]:
    pool_class_ids = real.class_ids.rows()
    _, counts = np.unique(pool_class_ids, return_counts=True)
    # Only a caption of another class is certain not to fit.
    if len(counts) > 1:
        value = retrieval.r_precision(
            generated.codes.features,
            generated.sentences.rows(),
            generated.class_ids.rows(),
            real.sentences.rows(),
            pool_class_ids,
        )
        mismatched = min(retrieval.MISMATCHED, len(pool_class_ids) - counts.max())
        yield "r_precision", value, None, recipe | {"mismatched": int(mismatched)}


def _nearest(
    generated: Nearest, real: Nearest, captions: np.ndarray, recipe: dict[str, Any]
) -> _Result:
    row = int(generated.distances.argmin())
    details = {
        "distance": "1 - cosine",
        "of_real_pictures": float(real.distances.mean()),
        "closest": {
            "caption": captions[row],
            "training_picture": generated.names[row],
            "distance": float(generated.distances[row]),
        },
    }
    return "nearest_training_picture", generated.distances.mean(), None, recipe | details
