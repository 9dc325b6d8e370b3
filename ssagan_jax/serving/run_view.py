"""What the page shows of a run: curves, scores and sample grids, also while it still trains."""

import functools
import threading
from pathlib import Path

from PIL import Image

from ssagan_jax.data.tensorflow_import import import_tensorflow
from ssagan_jax.errors import InputError
from ssagan_jax.reporting import page
from ssagan_jax.reporting.charts import CHARTS, HEALTH_CHARTS, draw_chart
from ssagan_jax.reporting.runs import open_reported_runs
from ssagan_jax.reporting.score_table import Row, ScoreTable
from ssagan_jax.workdir import Workdir

_NO_SCORES = (
    "No scores yet. Training writes them with config.eval.every_epochs; "
    "python -m ssagan_jax.evaluate computes more."
)

_LOCK = threading.Lock()


def run_html(workdir: Workdir) -> str:
    """Progress, warnings, curves and scores of a run as HTML; all text in it is escaped."""
    with _LOCK:
        return _run_html(workdir.path, _signature(workdir))


# Every open page asks again and again, and charts take a second.
@functools.lru_cache(maxsize=1)
def _run_html(path: Path, _: tuple[tuple[str, int, int], ...]) -> str:
    import_tensorflow()  # Quietly; TensorBoard's reader would import it anyway.
    try:
        (run,) = open_reported_runs([str(path)], "validation")
    except InputError as error:  # It has just begun, or is in stage 1.
        return page.note(str(error).replace(str(path), path.name))
    step, total = max(run.available_steps), run.schedule.total_steps
    lines = [f"Step {step:,} of {total:,}, epoch {run.epoch(step):.1f}"]
    if run.best:
        lines.append(f"Best: step {run.best.step:,}, {run.best.score} {run.best.value:.4g}")
    lines += [f"Warning, {text}" for text in run.warnings]
    charts = [
        (chart.title, draw_chart(chart, [run]))
        for chart in (*CHARTS, *HEALTH_CHARTS)
        if not chart.is_empty([run])
    ]
    rows = [Row(run.method, run.epoch(step), step, run.scores[step]) for step in sorted(run.scores)]
    scores = page.score_table(ScoreTable(rows)) if rows else page.note(_NO_SCORES)
    return "\n".join([*map(page.note, lines), page.charts(charts), "<h3>Scores</h3>", scores])


def sample_grid(workdir: Workdir, index: int) -> tuple[Image.Image | None, str]:
    """A sample grid of the run by its index in time, and its title; None if there is none.

    Negative indices count from the latest, and those beyond the ends mean the first or last.
    """
    steps = workdir.sample_grid_steps()
    if not steps:
        return None, "No sample grid yet; training writes one every config.log.sample_grid_every"
    step = steps[max(-len(steps), min(index, len(steps) - 1))]
    epoch = workdir.schedule().gan_epoch(step)
    try:
        with Image.open(workdir.sample_grid(step)) as image:
            return image.convert("RGB"), f"step {step:,}, epoch {epoch:.1f}"
    except OSError as error:
        raise InputError(f"the sample grid of step {step} cannot be read ({error})") from error


def _signature(workdir: Workdir) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever one of the files changes that `run_html` reads."""
    files = [*workdir.path.glob("events.out.tfevents.*"), *workdir.samples.glob("step_*.png")]
    files += [workdir.metrics, workdir.health, workdir.best, workdir.checkpoints]
    stats = ((str(file), file.stat()) for file in sorted(files) if file.exists())
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
