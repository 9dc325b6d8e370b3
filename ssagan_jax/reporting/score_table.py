"""Table I: the scores of checkpoints, with the recipe of every number."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from ssagan_jax.evaluation.scores import MIN_FID_IMAGES, Score


@dataclasses.dataclass(frozen=True)
class Column:
    """How a score is shown; `better` is max, min, or None if neither is better."""

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
    "attributes/color": Column("Color correct", max, 3),
    "attributes/body": Column("Body correct", max, 3),
    "attributes/facing": Column("Facing correct", max, 3),
    "diversity": Column("Diversity", None, 3),
    "nearest_training_picture": Column("Nearest training picture", None, 3),
    # In the features of each run's own encoder, so not comparable between runs.
    "encoder_frechet": Column("Frechet distance (own encoder)", None, 2),
    "retrieval/r1": Column("Retrieval R@1", max, 3),
    "retrieval/r5": Column("Retrieval R@5", max, 3),
    "retrieval/mean_rank": Column("Retrieval mean rank", min, 2),
}
_ALWAYS = ("inception_score", "fid")
# Keys in which the recipes of comparable numbers may differ.
_FREE_KEYS = {"checkpoint", "seed", "versions", "closest", "of_real_pictures"}
# How the names of features from the run's own encoders end; their weights differ by run and epoch.
_OWN_ENCODER = "of the run"
_VARIANT = "_torchvision"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table I: a method at an epoch, and its scores by name."""

    method: str
    epoch: float
    step: int
    scores: dict[str, Score]


class ScoreTable:
    """Table I: methods and epochs by scores.

    Attributes:
      rows: as given.
      names: scores that have a column, those in COLUMNS first.
      recipes: in the order of their footnotes: labels of the scores, and the recipe they share.
      notes: what a reader must know about the numbers.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        seen = {name for row in rows for name in row.scores}
        self.names = [name for name in COLUMNS if name in seen or name in _ALWAYS]
        self.names += sorted(seen - COLUMNS.keys())
        groups: dict[str, list[tuple[str, Score]]] = {}
        for name, score in self._cells():
            groups.setdefault(_comparison_key(score.recipe), []).append((name, score))
        self._numbers = {key: number for number, key in enumerate(groups, 1)}
        self.recipes = [self._merged(cells) for cells in groups.values()]
        self.notes = self._notes()

    def column(self, name: str) -> Column:
        """How a score is shown; one that is not in COLUMNS has its name as label and no best."""
        base, variant, rest = name.partition(_VARIANT)
        if rest or base not in COLUMNS:
            return Column(name, None, 4)
        suffix = f" ({variant[1:]})" if variant else ""
        return dataclasses.replace(COLUMNS[base], label=COLUMNS[base].label + suffix)

    def recipe(self, row: Row, name: str) -> int | None:
        """The footnote number of a cell's recipe; None if the score is missing."""
        score = row.scores.get(name)
        return self._numbers[_comparison_key(score.recipe)] if score else None

    def best(self, row: Row, name: str) -> bool:
        """Whether no other row is better; False if the recipes in the column are not comparable."""
        better = self.column(name).better
        if name not in row.scores or better is None or self._recipes_differ(name):
            return False
        values = [score.value for other, score in self._cells() if other == name]
        return row.scores[name].value == better(filter(math.isfinite, values), default=None)

    def text(self, row: Row, name: str) -> str:
        """Text of a cell: value and standard deviation, or a dash."""
        if name not in row.scores:
            return "\N{EM DASH}"
        score, digits = row.scores[name], self.column(name).digits
        std = "" if score.std is None else f" ± {score.std:.{digits}f}"
        return f"{score.value:.{digits}f}{std}"

    def markdown(self) -> str:
        """The table as Markdown with the best values in bold, then notes and recipes."""
        titles = ["Method", "Epoch", *(self.column(name).label for name in self.names)]
        lines = [_line(titles), _line(["---"] * len(titles))]
        for row in self.rows:
            cells = [row.method, f"{row.epoch:.1f}"]
            for name in self.names:
                mark = "**" if self.best(row, name) else ""
                number = self.recipe(row, name)
                footnote = f" [{number}]" if number else ""
                cells.append(f"{mark}{self.text(row, name)}{mark}{footnote}")
            lines.append(_line(cells))
        lines += ["", *(f"- {note}" for note in self.notes), ""] if self.notes else [""]
        for number, (labels, recipe) in enumerate(self.recipes, 1):
            lines.append(f"[{number}] {labels}: {recipe}\n")
        return "\n".join(lines)

    def csv(self) -> str:
        """The table as CSV at full precision, with standard deviations in separate columns."""
        scores = [field for name in self.names for field in (name, f"{name}_std")]
        out = io.StringIO()
        writer = csv.DictWriter(out, ["method", "epoch", "step", *scores], lineterminator="\n")
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

    def _merged(self, cells: list[tuple[str, Score]]) -> tuple[str, str]:
        """Labels and recipe of a footnote; keys that may differ list all their values."""
        values: dict[str, dict[str, None]] = {}
        for _, score in cells:
            for key, value in score.recipe.items():
                shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                values.setdefault(key, {})[shown] = None
        labels = dict.fromkeys(self.column(name).label for name, _ in cells)
        recipe = "; ".join(f"{key}: {' or '.join(shown)}" for key, shown in values.items())
        return ", ".join(labels), recipe or "no recipe"

    def _recipes_differ(self, name: str) -> bool:
        keys = {_comparison_key(score.recipe) for other, score in self._cells() if other == name}
        return len(keys) > 1

    def _notes(self) -> list[str]:
        notes = []
        differing = [self.column(name).label for name in self.names if self._recipes_differ(name)]
        if differing:
            notes.append(
                f"No best value is marked for {', '.join(differing)}: these numbers come from "
                "different recipes and are not comparable."
            )
        counts = [
            score.recipe[key]
            for name, score in self._cells()
            for key in ("num_real", "num_generated")
            if name.startswith("fid") and key in score.recipe
        ]
        if counts and min(counts) < MIN_FID_IMAGES:
            notes.append(
                f"FID from only {min(counts)} images: below {MIN_FID_IMAGES:,} it is biased and "
                "not comparable across papers; use KID."
            )
        own = dict.fromkeys(
            self.column(name).label
            for name, score in self._cells()
            if _uses_own_encoder(score.recipe)
        )
        if own:
            notes.append(
                f"Computed with each run's own encoders: {', '.join(own)}. A Frechet distance in "
                "their features is not FID, and is not comparable between runs."
            )
        return notes


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _uses_own_encoder(recipe: dict[str, Any]) -> bool:
    return str(recipe.get("features")).endswith(_OWN_ENCODER)


def _comparison_key(recipe: dict[str, Any]) -> str:
    """The part of a recipe that is the same for all comparable numbers."""
    ignored = _FREE_KEYS | ({"weights_sha256"} if _uses_own_encoder(recipe) else set())
    kept = {key: value for key, value in recipe.items() if key not in ignored}
    return json.dumps(kept, sort_keys=True)
