"""One evaluation of one state: from the passes over pictures to its scores."""

import dataclasses
import importlib.metadata
from typing import Any

import numpy as np

from ssagan_jax import __version__
from ssagan_jax.evaluation.encoder_features import encoder_recipe
from ssagan_jax.evaluation.eval_functions import EvalFunctions
from ssagan_jax.evaluation.feature_passes import EvalRequest, FeaturePasses, GeneratedFeatures
from ssagan_jax.metrics import kid, precision_recall, retrieval
from ssagan_jax.metrics.diversity import mean_pairwise_distance
from ssagan_jax.metrics.fid import frechet_distance
from ssagan_jax.steps.state import TrainState

_FEWEST = 4  # pictures on a side


@dataclasses.dataclass(frozen=True)
class Finding:
    """A score without its place in the run; see `Score`."""

    name: str
    value: float
    std: float | None
    recipe: dict[str, Any]


class Round:
    """The scores of one state, each with its recipe."""

    def __init__(self, tools: EvalFunctions, state: TrainState, request: EvalRequest) -> None:
        self._tools, self._request = tools, request
        self._passes = FeaturePasses(tools, state, request)
        self._real, self._sha256 = self._passes.real()
        self._codes = encoder_recipe(tools.config, state)
        self._found: list[Finding] = []
        self._recipe = {
            "num_real": self._real.codes.num,
            "num_generated": request.num,
            "split": request.split,
            "image_size": tools.config.data.image_size,
            "features": None,
            "weights_sha256": None,
            "resize": None,
            "value_range": "0..255",
            "checkpoint": int(state.step),
            "weights": "raw" if state.ema is None else "average",
            "seed": request.seed,
            "real_statistics": self._sha256,
            "versions": {"ssagan_jax": __version__}
            | {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")},
        }

    def findings(self, gan: bool) -> list[Finding]:
        """All scores that data and weights allow, those of the generator if `gan`."""
        if gan:
            painted = self._passes.painted()
            # Distributions of fewer cannot be compared.
            if min(self._request.num, self._real.codes.num) >= _FEWEST:
                if self._tools.inception:
                    self._inception(painted)
                self._encoder_distance(painted)
            self._r_precision(painted)
            self._attributes(painted)
            self._diversity()
            if self._tools.config.eval.nearest:
                self._nearest(painted)
        found = retrieval.retrieval(self._real.codes.features, self._real.sentences.rows())
        for name, value in found.items():
            self._add(name, value, **self._codes | {"num_generated": 0})
        return self._found

    def _add(self, name: str, value: float, std: float | None = None, **recipe: Any) -> None:
        self._found.append(Finding(name, float(value), std, self._recipe | recipe))

    def _inception(self, painted: GeneratedFeatures) -> None:
        network, generated = self._tools.inception, painted.inception
        real = self._passes.real_inception(self._real.codes.num, self._sha256)
        variant = self._tools.config.eval.inception_variant
        end = "" if variant == "fid" else f"_{variant}"
        score, spread = painted.predictions.result()
        how = network.recipe_of("logits") | {"splits": painted.predictions.splits}
        self._add(f"inception_score{end}", score, spread, **how)
        how = network.recipe_of("pooled")
        self._add(f"fid{end}", frechet_distance(generated.moments, real.moments), **how)
        sides = generated.features, real.features
        distance, spread = kid.kernel_inception_distance(*sides)
        size = kid.subset_size(*map(len, sides))
        how["rows"] = list(map(len, sides))
        subsets = {"subsets": kid.SUBSETS, "subset_size": size}
        self._add(f"kid{end}", distance, spread, **how, **subsets)
        shares = precision_recall.precision_recall(*sides)
        for name, share in zip(("precision", "recall"), shares, strict=True):
            self._add(f"{name}{end}", share, **how, neighbors=precision_recall.NEIGHBORS)

    def _encoder_distance(self, painted: GeneratedFeatures) -> None:
        sides = painted.pairs.codes.moments, self._real.codes.moments
        self._add("encoder_frechet", frechet_distance(*sides), **self._codes)

    def _r_precision(self, painted: GeneratedFeatures) -> None:
        pairs, real = painted.pairs, self._real
        class_ids, pool = pairs.class_ids.rows(), real.class_ids.rows()
        # Without another class there is no caption that surely does not fit.
        if len(np.unique(pool)) > 1:
            value = retrieval.r_precision(
                pairs.codes.features, pairs.sentences.rows(), class_ids, real.sentences.rows(), pool
            )
            fewest = len(pool) - np.unique(pool, return_counts=True)[1].max()
            how = self._codes | {"mismatched": int(min(retrieval.MISMATCHED, fewest))}
            self._add("r_precision", value, **how)

    def _attributes(self, painted: GeneratedFeatures) -> None:
        for name, hits in painted.hits.items():
            if hits:
                how = {"features": "rules, nothing learned", "num_captions": len(hits)}
                self._add(f"attributes/{name}", np.mean(hits), **how)

    def _diversity(self) -> None:
        features = self._passes.alike()
        captions, pictures, _ = features.shape
        network = self._tools.inception
        how = network.recipe_of("pooled") if network else self._codes
        how = how | {"num_generated": captions * pictures, "captions": captions}
        self._add("diversity", mean_pairwise_distance(features), **how)

    def _nearest(self, painted: GeneratedFeatures) -> None:
        generated, real = painted.pairs.codes.features, self._real.codes.features
        if not np.isfinite(generated).all():
            return
        ours, held_out = self._passes.nearest(generated, real)
        row = int(ours.distances.argmin())
        closest = {
            "caption": painted.captions.rows()[row],
            "training_picture": ours.names[row],
            "distance": float(ours.distances[row]),
        }
        how = self._codes | {
            "num_real": len(self._tools.pictures["train"]),
            "distance": "1 - cosine",
            "of_real_pictures": float(held_out.distances.mean()),
            "closest": closest,
        }
        self._add("nearest_training_picture", ours.distances.mean(), **how)
