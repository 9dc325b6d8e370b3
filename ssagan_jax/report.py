"""The paper's table and figures from work folders.

python -m ssagan_jax.report --workdir=runs/lstm --workdir=runs/bert --output=report

Writes index.html, which holds everything, and its table and pictures as single files beside it.
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

# Tensorflow, which only reads TensorBoard's files here, greets with warnings otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import logging

from ssagan_jax.config_validation import check_seed
from ssagan_jax.errors import InputError
from ssagan_jax.exit_codes import exit_on_user_error
from ssagan_jax.reporting import page
from ssagan_jax.reporting.charts import CHARTS, draw
from ssagan_jax.reporting.epoch_selection import choose_steps, read_epochs, steps_with_images
from ssagan_jax.reporting.figures import Gallery, Panel
from ssagan_jax.reporting.output_folder import PAGE, check_output, write_output
from ssagan_jax.reporting.run_stats import differing_keys, training_stats
from ssagan_jax.reporting.runs import ReportedRun, open_reported_runs
from ssagan_jax.reporting.score_table import Row, ScoreTable
from ssagan_jax.sample import read_captions

# Captions whose masks are shown.
_MASKED = 2


@dataclasses.dataclass(frozen=True)
class ReportRequest:
    """What to report.

    Attributes:
      epochs: of the GAN's stage; empty for those that have scores.
      captions: the user's own, painted `num` times each with noise from `seed`.
    """

    epochs: list[float]
    captions: list[str]
    num: int
    seed: int


class Report:
    """The page's sections, and the files beside it, of some runs."""

    def __init__(self, runs: Sequence[ReportedRun], request: ReportRequest) -> None:
        self.files: dict[str, bytes] = {}
        self._runs = runs
        self._request = request
        self._galleries = [Gallery(run) for run in runs]
        self._steps = choose_steps(runs, request.epochs)

    def html(self) -> str:
        """The page; `files` are complete once it is made."""
        sections = [
            ("Table I: performance of the models", self._table()),
            ("Fig. 3 and 4: losses", self._charts()),
            *self._compared(),
            *self._own(),
            *self._masks(),
            ("Time, memory and size", self._facts()),
            ("Config", self._config()),
        ]
        folders = [f"{run.method}: {run.workdir.path.name}" for run in self._runs]
        return page.page("Text to image generation: results", folders, sections)

    def _table(self) -> str:
        rows = [
            Row(run.method, run.epoch(step), step, run.scores.get(step, {}))
            for run, steps in zip(self._runs, self._steps, strict=True)
            for step in steps
        ]
        scores = ScoreTable(rows)
        self.files["table1.md"] = scores.markdown().encode()
        self.files["table1.csv"] = scores.csv().encode()
        return page.score_table(scores)

    def _charts(self) -> str:
        drawn = [(chart.title, draw(chart, self._runs)) for chart in CHARTS]
        for chart, (_, data) in zip(CHARTS, drawn, strict=True):
            self.files[f"{chart.name}.png"] = data
        legend = "Pale: as written while training. Strong: smoothed."
        return page.charts(drawn) + page.note(legend)

    def _compared(self) -> list[tuple[str, str]]:
        """Fig. 5 to 8: a section for every epoch, with the runs that share captions together."""
        together: dict[tuple[float, tuple[str, ...]], list[Panel]] = {}
        shown = steps_with_images(self._runs, self._steps, bool(self._request.epochs))
        for run, gallery, steps in zip(self._runs, self._galleries, shown, strict=True):
            for step in steps:
                print(f"{run.method}: pictures of epoch {run.epoch(step):.1f}", flush=True)
                if panel := gallery.compared(step):
                    epoch = round(run.epoch(step), 1)
                    self._keep(f"fig5_epoch_{epoch}", panel)
                    together.setdefault((epoch, tuple(run.captions)), []).append(panel)
                else:
                    print("no sample sheet here yet, so no captions and no real pictures")
        heading = "Fig. 5 to 8: captions, real and generated pictures at epoch"
        return [
            (f"{heading} {epoch}", page.samples(panels))
            for (epoch, _), panels in sorted(together.items(), key=lambda item: item[0])
        ]

    def _own(self) -> list[tuple[str, str]]:
        """Fig. 9: the user's captions, painted by every run that has a checkpoint of its GAN."""
        request, panels = self._request, []
        if not request.captions:
            return []
        for run, gallery, step in self._painters():
            print(f"{run.method}: your captions", flush=True)
            panels.append(gallery.painted(step, request.captions, request.num, request.seed))
            self._keep("fig9_captions", panels[-1])
        lines = [
            f"{run.method} does not know, in {caption!r}: {', '.join(unknown)}"
            for run, gallery, step in self._painters()
            for caption in request.captions
            if (unknown := gallery.trained(step).tokenizer.unknown_words(caption))
        ]
        content = page.samples(panels) if panels else page.note("No run has a GAN checkpoint.")
        return [("Fig. 9: your captions", content + "".join(map(page.note, lines)))]

    def _masks(self) -> list[tuple[str, str]]:
        """The masks of the first captions, the user's or else the sheets'."""
        parts = []
        for run, gallery, step in self._painters():
            captions = (self._request.captions or run.captions)[:_MASKED]
            if captions and (panel := gallery.masks(step, captions, self._request.seed)):
                self._keep("masks", panel)
                parts.append(page.samples([panel], wide=True))
        legend = page.note("White: where the caption changes the features; coarse to fine.")
        return [("Mask maps, stage by stage", legend + "".join(parts))] if parts else []

    def _painters(self) -> list[tuple[ReportedRun, Gallery, int]]:
        """Runs with the last of their chosen checkpoints, or else their last one."""
        return [
            (run, gallery, ([s for s in steps if s in run.checkpoints] or run.checkpoints)[-1])
            for run, gallery, steps in zip(self._runs, self._galleries, self._steps, strict=True)
            if run.checkpoints
        ]

    def _facts(self) -> str:
        legend = (
            "The GAN's stage, measured while it trained: steps count once they have ended; "
            "compilation, sample sheets, checkpoints and evaluation are left out. The paper, on 4 "
            "GPUs: 140 seconds an epoch with the LSTM, 112 with BERT."
        )
        heads = ["", *(run.method for run in self._runs)]
        facts = training_stats(self._runs)
        return page.table(heads, ([name, *values] for name, values in facts)) + page.note(legend)

    def _config(self) -> str:
        columns, lines = differing_keys(self._runs)
        if not lines:
            return page.note("The configs are the same.")
        legend = "Keys in which the runs differ." if len(self._runs) > 1 else "Changed defaults."
        return page.note(legend) + page.table(
            ["Key", *columns], ([key, *values] for key, values in lines)
        )

    def _keep(self, name: str, panel: Panel) -> None:
        self.files[f"{name}_{panel.run.file_name}.png"] = page.png(panel.sheet())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ssagan_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", action="append", required=True, help="may be given again")
    parser.add_argument("--output", default="report", help="folder; a report there is replaced")
    parser.add_argument("--epochs", default="", help="as in 20,50; default: those with scores")
    parser.add_argument("--split", default="validation", help="of the scores")
    parser.add_argument("--caption", action="append", default=[], help="to paint; may be repeated")
    parser.add_argument("--captions_file", help="text file with one caption to paint a line")
    parser.add_argument("--num", type=int, default=3, help="pictures of each of these captions")
    parser.add_argument("--seed", type=int, default=0, help="of their noise")
    flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        if flags.num < 1:
            raise InputError(f"--num={flags.num}: must be 1 or more")
        check_seed(flags.seed)
        given = flags.caption or flags.captions_file
        captions = read_captions(flags.caption, flags.captions_file) if given else []
        output = Path(flags.output).expanduser().absolute()
        check_output(output)
        request = ReportRequest(read_epochs(flags.epochs), captions, flags.num, flags.seed)
        report = Report(open_reported_runs(flags.workdir, flags.split), request)
        html = report.html()
        write_output(output, {PAGE: html.encode()} | report.files)
    print(f"report of {len(flags.workdir)} run(s): {output / PAGE}")


if __name__ == "__main__":
    main()
