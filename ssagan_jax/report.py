"""Writes a report: the table and figures of the paper, from work folders.

python -m ssagan_jax.report --workdir=runs/lstm --workdir=runs/bert --output=report

index.html contains everything; its table and images are also written as separate files.
"""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

# TensorFlow only reads TensorBoard's files here; this silences its start-up warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import logging

from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice, parse_checkpoint
from ssagan_jax.checkpointing.checksums import CheckpointError
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.compilation_cache import enable_compilation_cache
from ssagan_jax.config.validation import check_seed
from ssagan_jax.errors import InputError, exit_on_user_error
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.reporting import page
from ssagan_jax.reporting.charts import CHARTS, HEALTH_CHARTS, Chart, draw_chart
from ssagan_jax.reporting.epoch_selection import read_epochs, select_image_steps, select_table_steps
from ssagan_jax.reporting.figures import Panel, RunFigures
from ssagan_jax.reporting.output_folder import PAGE, check_output, write_output
from ssagan_jax.reporting.run_stats import differing_keys, training_stats
from ssagan_jax.reporting.runs import ReportedRun, open_reported_runs
from ssagan_jax.reporting.score_table import Row, ScoreTable
from ssagan_jax.sample import read_captions

# Captions whose masks are shown.
_MASK_CAPTIONS = 2
_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True)
class ReportRequest:
    """What to report.

    Attributes:
      epochs: of stage 2; empty for those that have scores.
      checkpoint: of which images are shown: a step or "best"; None for those of `epochs`.
      captions: the user's; `num` images of each are generated with noise from `seed`.
    """

    epochs: list[float]
    checkpoint: CheckpointChoice
    captions: list[str]
    num: int
    seed: int


class Report:
    """The sections of the page, and the files beside it.

    Attributes:
      files: contents by name, complete after `html`.
    """

    def __init__(self, runs: Sequence[ReportedRun], request: ReportRequest) -> None:
        self.files: dict[str, bytes] = {}
        self._runs = runs
        self._request = request
        self._table_steps = select_table_steps(runs, request.epochs)
        chosen = request.checkpoint
        self._chosen = [] if chosen is None else [run.step_of(chosen) for run in runs]
        self._last_steps = self._chosen or [
            ([step for step in steps if step in run.checkpoints] or run.checkpoints or [None])[-1]
            for run, steps in zip(runs, self._table_steps, strict=True)
        ]
        self._figures = list(map(RunFigures, runs, self._last_steps))

    def html(self) -> str:
        """The page."""
        sections = [
            ("Table I: performance of the models", self._score_table()),
            ("Fig. 3 and 4: losses", self._charts(CHARTS)),
            *self._health(),
            *self._real_and_generated(),
            *self._user_captions(),
            *self._masks(),
            ("Time, memory and size", self._training_stats()),
            ("Config", self._config()),
        ]
        folders = [f"{run.method}: {run.workdir.path.name}{_best(run)}" for run in self._runs]
        return page.page("Text to image generation: results", folders, sections, self.files)

    def _score_table(self) -> str:
        rows = [
            Row(run.method, run.epoch(step), step, run.scores.get(step, {}))
            for run, steps in zip(self._runs, self._table_steps, strict=True)
            for step in steps
        ]
        scores = ScoreTable(rows)
        self.files["table1.md"] = scores.markdown().encode()
        self.files["table1.csv"] = scores.csv().encode()
        return page.score_table(scores)

    def _charts(self, charts: Sequence[Chart]) -> str:
        drawn = []
        for chart in charts:
            drawn.append((chart.title, draw_chart(chart, self._runs)))
            self.files[f"{chart.name}.png"] = drawn[-1][1]
        return page.charts(drawn) + page.note("Pale: as logged. Strong: smoothed.")

    def _health(self) -> list[tuple[str, str]]:
        """Signs of overfitting and of collapse, and the warnings of all runs."""
        charts = [chart for chart in HEALTH_CHARTS if not chart.is_empty(self._runs)]
        if not charts:
            return []
        warnings = [f"{run.method}, {text}." for run in self._runs for text in run.warnings]
        notes = "".join(map(page.note, warnings or ["No warnings."]))
        return [("Overfitting and collapse", notes + self._charts(charts))]

    def _real_and_generated(self) -> list[tuple[str, str]]:
        """Fig. 5 to 8: one section per epoch for all runs that have the same captions."""
        groups: dict[tuple[float, tuple[str, ...]], list[Panel]] = {}
        image_steps = [[step] for step in self._chosen] or select_image_steps(
            self._runs, self._table_steps, bool(self._request.epochs)
        )
        for run, figures, steps in zip(self._runs, self._figures, image_steps, strict=True):
            for step in steps:
                epoch = round(run.epoch(step), 1)
                print(f"{run.method}: images of epoch {epoch}", flush=True)
                panel = figures.real_and_generated(step)
                self._add_file(f"fig5_epoch_{epoch}", panel)
                groups.setdefault((epoch, tuple(run.fixed_samples.captions)), []).append(panel)
        heading = "Fig. 5 to 8: captions, real and generated images at epoch"
        return [
            (f"{heading} {epoch}", page.samples(panels))
            for (epoch, _), panels in sorted(groups.items(), key=lambda item: item[0])
        ]

    def _user_captions(self) -> list[tuple[str, str]]:
        """Fig. 9: the user's captions, by every run that has a checkpoint of stage 2."""
        request, panels, notes = self._request, [], []
        if not request.captions:
            return []
        for run, figures, step in self._last_checkpoints():
            print(f"{run.method}: your captions", flush=True)
            panels.append(figures.user_captions(step, request.captions, request.num, request.seed))
            self._add_file("fig9_captions", panels[-1])
            for caption in request.captions:
                if unknown := figures.model(step).tokenizer.unknown_words(caption):
                    words = ", ".join(unknown)
                    notes.append(f"Unknown words of {run.method} in {caption!r}: {words}")
        content = page.samples(panels) if panels else page.note("No run has a GAN checkpoint.")
        return [("Fig. 9: your captions", content + "".join(map(page.note, notes)))]

    def _masks(self) -> list[tuple[str, str]]:
        """The masks of the first captions: the user's, or else those of the sample grids."""
        parts = []
        for run, figures, step in self._last_checkpoints():
            captions = (self._request.captions or run.fixed_samples.captions)[:_MASK_CAPTIONS]
            if panel := figures.masks(step, captions, self._request.seed):
                self._add_file("masks", panel)
                parts.append(page.samples([panel], wide=True))
        legend = page.note("White: where the caption changes the features. From coarse to fine.")
        return [("Fusion masks of each stage", legend + "".join(parts))] if parts else []

    def _last_checkpoints(self) -> list[tuple[ReportedRun, RunFigures, int]]:
        """Runs with the chosen checkpoint, or the last one in the table, or else their last one."""
        last = zip(self._runs, self._figures, self._last_steps, strict=True)
        return [each for each in last if each[2] is not None]

    def _training_stats(self) -> str:
        legend = (
            "Stage 2, measured during training over completed steps, without compilation, sample "
            "grids, checkpoints and evaluation. The paper, on 4 GPUs: 140 seconds per epoch with "
            "the LSTM, 112 with BERT."
        )
        titles = ["", *(run.method for run in self._runs)]
        rows = ([name, *values] for name, values in training_stats(self._runs))
        return page.table(titles, rows) + page.note(legend)

    def _config(self) -> str:
        columns, lines = differing_keys(self._runs)
        if not lines:
            return page.note("The configs are the same.")
        others = "between the runs" if len(self._runs) > 1 else "from the defaults"
        rows = ([key, *values] for key, values in lines)
        return page.note(f"Keys that differ {others}.") + page.table(["Key", *columns], rows)

    def _add_file(self, name: str, panel: Panel) -> None:
        grid = draw_image_grid(panel.rows, panel.column_titles)
        self.files[f"{name}_{panel.run.file_name}.png"] = page.png(grid)


def _open_report(folders: Sequence[str], split: str, request: ReportRequest) -> Report:
    """Opens the runs, again if a training has replaced the checkpoint that was to be shown."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(CheckpointError):
            return Report(open_reported_runs(folders, split), request)
    return Report(open_reported_runs(folders, split), request)


def _best(run: ReportedRun) -> str:
    if run.best is None:
        return ""
    epoch, value = run.epoch(run.best.step), f"{run.best.score} {run.best.value:.4g}"
    return f"; best checkpoint: step {run.best.step}, epoch {epoch:.1f}, {value}"


def main() -> None:
    """The command."""
    parser = command_parser("report", __doc__)
    parser.add_argument("--workdir", action="append", required=True, help="may be repeated")
    about = "folder; an earlier report is replaced (default: %(default)s)"
    parser.add_argument("--output", default="report", help=about)
    parser.add_argument("--epochs", default="", help="as in 20,50 (default: those with scores)")
    about = "whose images to show: a step or best (default: those of --epochs)"
    parser.add_argument("--checkpoint", type=parse_checkpoint, help=about)
    about = "split of the scores (default: %(default)s)"
    parser.add_argument(
        "--split", default="validation", choices=("validation", "train"), help=about
    )
    parser.add_argument("--caption", action="append", default=[], help="may be repeated")
    parser.add_argument("--captions_file", help="text file with one caption per line")
    about = "images per caption (default: %(default)s)"
    parser.add_argument("--num", type=int, default=3, help=about)
    about = "random seed of the noise (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, help=about)
    with exit_on_user_error():
        flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        if flags.num < 1:
            raise InputError(f"--num={flags.num}: must be 1 or more")
        check_seed(flags.seed)
        given = flags.caption or flags.captions_file
        captions = read_captions(flags.caption, flags.captions_file) if given else []
        output = Path(flags.output).expanduser().resolve()
        check_output(output)
        enable_compilation_cache()
        request = ReportRequest(
            read_epochs(flags.epochs), flags.checkpoint, captions, flags.num, flags.seed
        )
        report = _open_report(flags.workdir, flags.split, request)
        html = report.html()
        write_output(output, {PAGE: html.encode()} | report.files)
    print(f"report of {len(flags.workdir)} run(s): {output / PAGE}")


if __name__ == "__main__":
    main()
