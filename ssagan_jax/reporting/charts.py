"""Curves of all runs in one chart: Fig. 3 and 4 of the paper, and signs of trouble."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ssagan_jax.reporting.runs import ReportedRun


@dataclasses.dataclass(frozen=True)
class Chart:
    """A scalar over the epochs of stage 2, and others that are drawn dashed and dotted."""

    name: str
    scalar: str
    title: str
    unit: str = "loss"
    others: tuple[str, ...] = ()

    def is_empty(self, runs: Sequence[ReportedRun]) -> bool:
        """Whether no run has its first scalar."""
        return not any(run.scalar(self.scalar) for run in runs)


CHARTS = (
    Chart("fig3_generator", "generator/adversarial", "Fig. 3: generator, adversarial loss (eq. 4)"),
    Chart("fig3_discriminator", "discriminator/adversarial", "Fig. 3: discriminator, hinge loss"),
    Chart("fig4_damsm", "generator/damsm", "Fig. 4: generator, DAMSM loss"),
    Chart("fig4_magp", "discriminator/magp", "Fig. 4: discriminator, MA-GP"),
)
HEALTH_CHARTS = (
    Chart(
        "health_logits",
        "health/training_logit",
        "Discriminator, real and generated images",
        "logit",
        ("health/held_out_logit", "health/generated_logit"),
    ),
    Chart(
        "health_overfitting",
        "health/overfitting",
        "Discriminator, signs of overfitting",
        "value",
        ("health/sign", "health/separation"),
    ),
    Chart(
        "health_variety",
        "health/noise_variety",
        "Distance between generated images",
        "relative to real images",
        ("health/caption_variety",),
    ),
    Chart(
        "health_gradients",
        "gradient_norm/generator",
        "Gradients",
        "norm",
        ("gradient_norm/discriminator",),
    ),
)
_STYLES = ("-", "--", ":")
# Maximum over median from which on the scale is logarithmic.
_LOG_RATIO = 50


def smooth(values: np.ndarray) -> np.ndarray:
    """Exponential moving average of f[N] over about N / 20 points, at least 5.

    It is bias-corrected like TensorBoard's; values that are not finite are skipped.
    """
    decay = 1 - 1 / max(5, len(values) / 20)
    total = weight = 0.0
    smoothed = []
    for value in values:
        if np.isfinite(value):
            total, weight = total * decay + value, weight * decay + 1
        smoothed.append(total / weight if weight else np.nan)
    return np.array(smoothed)


def draw_chart(chart: Chart, runs: Sequence[ReportedRun]) -> bytes:
    """The chart as a PNG: for each run, raw values pale and smoothed values on top."""
    scalars = (chart.scalar, *chart.others)
    curves = [[run.scalar(scalar) for scalar in scalars] for run in runs]
    logarithmic = _spans_magnitudes([curve for each in curves for curve in each])
    figure = Figure(figsize=(5.2, 3.4), dpi=160, layout="constrained")
    axes = figure.subplots()
    for index, run in enumerate(runs):
        for scalar, curve, style in zip(scalars, curves[index], _STYLES, strict=False):
            epochs, values = [run.epoch(step) for step in curve], np.array(list(curve.values()))
            smoothed = np.exp(smooth(np.log(values))) if logarithmic else smooth(values)
            name = f", {scalar.partition('/')[2].replace('_', ' ')}" if chart.others else ""
            look = {"color": f"C{index}", "linestyle": style}
            axes.plot(epochs, values, alpha=0.3, linewidth=0.8, **look)
            axes.plot(epochs, smoothed, linewidth=1.8, label=run.method + name, **look)
    axes.set_yscale("log" if logarithmic else "linear")
    axes.set(title=chart.title, xlabel="GAN epochs", ylabel=chart.unit)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small" if chart.others else "small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _spans_magnitudes(curves: Sequence[dict[int, float]]) -> bool:
    values = np.array([value for curve in curves for value in curve.values()])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > _LOG_RATIO * np.median(values))
