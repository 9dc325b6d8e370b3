"""Fig. 3 and 4 of the paper: loss curves of all runs in one chart."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ssagan_jax.reporting.runs import ReportedRun


@dataclasses.dataclass(frozen=True)
class Chart:
    """A scalar over the epochs of stage 2."""

    name: str
    scalar: str
    title: str


CHARTS = (
    Chart("fig3_generator", "generator/adversarial", "Fig. 3: generator, adversarial loss (eq. 4)"),
    Chart("fig3_discriminator", "discriminator/adversarial", "Fig. 3: discriminator, hinge loss"),
    Chart("fig4_damsm", "generator/damsm", "Fig. 4: generator, DAMSM loss"),
    Chart("fig4_magp", "discriminator/magp", "Fig. 4: discriminator, MA-GP"),
)
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
    curves = [run.scalar(chart.scalar) for run in runs]
    logarithmic = _spans_magnitudes(curves)
    figure = Figure(figsize=(5.2, 3.4), dpi=160, layout="constrained")
    axes = figure.subplots()
    for index, (run, curve) in enumerate(zip(runs, curves, strict=True)):
        epochs, values = [run.epoch(step) for step in curve], np.array(list(curve.values()))
        smoothed = np.exp(smooth(np.log(values))) if logarithmic else smooth(values)
        axes.plot(epochs, values, color=f"C{index}", alpha=0.3, linewidth=0.8)
        axes.plot(epochs, smoothed, color=f"C{index}", linewidth=1.8, label=run.method)
    axes.set_yscale("log" if logarithmic else "linear")
    axes.set(title=chart.title, xlabel="GAN epochs", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _spans_magnitudes(curves: Sequence[dict[int, float]]) -> bool:
    values = np.array([value for curve in curves for value in curve.values()])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > _LOG_RATIO * np.median(values))
