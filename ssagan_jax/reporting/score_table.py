"""Scores of checkpoints from `eval/metrics.jsonl`, as a table with the recipe of every number."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.scores import COMPARABLE


@dataclasses.dataclass(frozen=True)
class Score:
    """A number, its own spread where it has one, and how it was made."""

    value: float
    std: float | None
    recipe: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """How a score is shown; `better` is max, min or None where none is better than another."""

    label: str
    better: Callable[..., float] | None
    digits: int


COLUMNS = {
    "inception_score": Column("IS", max, 2),
    "fid": Column("FID", min, 2),
    "kid": Column("KID", min, 4),
    "precision": Column("Precision", max, 3),
    "recall": Column("Recall", max, 3),
    "r_precision": Column("R-precision", max, 3),
    "clip_score": Column("CLIP score", max, 3),
    "attributes/color": Column("Colour right", max, 3),
    "attributes/body": Column("Body right", max, 3),
    "attributes/facing": Column("Facing right", max, 3),
    "diversity": Column("Diversity", None, 3),
    "nearest_training_picture": Column("Nearest training picture", None, 3),
    # In features that every run has of its own: no two runs compare.
    "encoder_frechet": Column("Frechet distance (own encoder)", None, 2),
    "retrieval/r1": Column("Retrieval R@1", max, 3),
    "retrieval/r5": Column("Retrieval R@5", max, 3),
    "retrieval/mean_rank": Column("Retrieval mean rank", min, 2),
}
_ALWAYS = ("inception_score", "fid")
# What may differ between two numbers that still compare, or is an outcome itself.
_FREE = {"checkpoint", "seed", "versions", "closest", "of_real_pictures"}
# Features of the run's own encoders: another run has other weights, and so has another epoch.
_OWN = "of the run"
_VARIANT = "_torchvision"


def read_scores(file: Path, split: str) -> dict[int, dict[str, Score]]:
    """Scores of a split by step and name; the last line of a (step, name) counts.

    Lines of other splits, of the encoders' stage and of no single score are passed over.

    Raises:
      InputError: a line is not as the evaluator writes it.
    """
    scores: dict[int, dict[str, Score]] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row["split"] == split and row.get("stage") == "gan" and row["value"] is not None:
                score = Score(float(row["value"]), row.get("std"), row.get("recipe") or {})
                scores.setdefault(int(row["step"]), {})[row["name"]] = score
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}:{number}: not a score ({type(error).__name__}: {error}); remove the line "
                "and run python -m ssagan_jax.evaluate again"
            ) from error
    return scores


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of Table I: a method at an epoch, and its scores by name."""

    method: str
    epoch: float
    step: int
    scores: dict[str, Score]


class ScoreTable:
    """Table I: methods and epochs by scores.

    Attributes:
      rows: as given.
      names: scores that have a column, the known ones first.
      recipes: what cells say of how they were made, by the number that they carry, from 1 on:
        labels of their scores, and every key's values.
      notes: what a reader must know of the numbers.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        seen = {name for row in rows for name in row.scores}
        self.names = [name for name in COLUMNS if name in seen or name in _ALWAYS]
        self.names += sorted(seen - COLUMNS.keys())
        keys = [_compared(score.recipe) for _, score in self._cells()]
        self._numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), 1)}
        self.recipes = {number: self._merged(number) for number in self._numbers.values()}
        self.notes = self._notes()

    def column(self, name: str) -> Column:
        """How a score is shown; one that is not known under its own name, without a best."""
        known, variant, rest = name.partition(_VARIANT)
        if rest or known not in COLUMNS:
            return Column(name, None, 4)
        end = f" ({variant[1:]})" if variant else ""
        return dataclasses.replace(COLUMNS[known], label=COLUMNS[known].label + end)

    def recipe(self, row: Row, name: str) -> int | None:
        """The number of a cell's recipe, None where the score is missing."""
        return self._numbers[_compared(row.scores[name].recipe)] if name in row.scores else None

    def best(self, row: Row, name: str) -> bool:
        """Whether no other row has a better score; never so where recipes of a column differ."""
        better = self.column(name).better
        if name not in row.scores or better is None or self._differ(name):
            return False
        values = [score.value for other, score in self._cells() if other == name]
        return row.scores[name].value == better(filter(math.isfinite, values), default=None)

    def text(self, row: Row, name: str) -> str:
        """A cell without its marks: value and spread, or a dash."""
        if name not in row.scores:
            return "\N{EM DASH}"
        score, digits = row.scores[name], self.column(name).digits
        spread = "" if score.std is None else f" ± {score.std:.{digits}f}"
        return f"{score.value:.{digits}f}{spread}"

    def markdown(self) -> str:
        """The table with the best in bold, then notes and recipes."""
        heads = ["Method", "Epoch", *(self.column(name).label for name in self.names)]
        lines = [_line(heads), _line(["---"] * len(heads))]
        for row in self.rows:
            cells = [row.method, f"{row.epoch:.1f}"]
            for name in self.names:
                mark = "**" if self.best(row, name) else ""
                number = self.recipe(row, name)
                made = f" [{number}]" if number else ""
                cells.append(f"{mark}{self.text(row, name)}{mark}{made}")
            lines.append(_line(cells))
        lines += ["", *(f"- {note}" for note in self.notes), ""] if self.notes else [""]
        for number, (labels, recipe) in self.recipes.items():
            lines.append(f"[{number}] {labels}: {recipe}\n")
        return "\n".join(lines)

    def csv(self) -> str:
        """The table at full precision; spreads have columns of their own, missing scores none."""
        fields = ["method", "epoch", "step"]
        for name in self.names:
            fields += [name, f"{name}_std"]
        out = io.StringIO()
        writer = csv.DictWriter(out, fields, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            cells = {"method": row.method, "epoch": row.epoch, "step": row.step}
            for name, score in row.scores.items():
                cells |= {name: score.value, f"{name}_std": score.std}
            writer.writerow(cells)
        return out.getvalue()

    def _cells(self) -> list[tuple[str, Score]]:
        return [
            (name, row.scores[name])
            for name in self.names
            for row in self.rows
            if name in row.scores
        ]

    def _merged(self, number: int) -> tuple[str, str]:
        """Labels and recipe under a number, with all values of what may differ."""
        cells = [
            (name, score)
            for name, score in self._cells()
            if self._numbers[_compared(score.recipe)] == number
        ]
        values: dict[str, dict[str, None]] = {}
        for _, score in cells:
            for key, value in score.recipe.items():
                shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                values.setdefault(key, {})[shown] = None
        labels = dict.fromkeys(self.column(name).label for name, _ in cells)
        recipe = "; ".join(f"{key}: {' or '.join(shown)}" for key, shown in values.items())
        return ", ".join(labels), recipe or "no recipe given"

    def _differ(self, name: str) -> bool:
        keys = {_compared(score.recipe) for other, score in self._cells() if other == name}
        return len(keys) > 1

    def _notes(self) -> list[str]:
        notes = []
        if differing := [self.column(name).label for name in self.names if self._differ(name)]:
            notes.append(
                f"No best is marked for {', '.join(differing)}: these numbers were made by "
                "different recipes and do not compare."
            )
        counts = [
            score.recipe[side]
            for name, score in self._cells()
            for side in ("num_real", "num_generated")
            if name.startswith("fid") and side in score.recipe
        ]
        if counts and min(counts) < COMPARABLE:
            notes.append(
                f"FID is made of {min(counts)} pictures on a side: below {COMPARABLE:,} "
                "it is biased and not comparable across papers; read KID first."
            )
        own = dict.fromkeys(
            self.column(name).label for name, score in self._cells() if _own(score.recipe)
        )
        if own:
            notes.append(
                f"In features of each run's own encoders: {', '.join(own)}. A Frechet distance in "
                "them is not FID, and does not compare between runs."
            )
        return notes


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _own(recipe: dict[str, Any]) -> bool:
    return str(recipe.get("features")).endswith(_OWN)


def _compared(recipe: dict[str, Any]) -> str:
    """The part of a recipe in which two numbers must agree to compare."""
    left_out = _FREE | ({"weights_sha256"} if _own(recipe) else set())
    kept = {key: value for key, value in recipe.items() if key not in left_out}
    return json.dumps(kept, sort_keys=True)
