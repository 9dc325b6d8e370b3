"""What a survey found, as a table to read, in Markdown, and as JSON."""

import collections
import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from ssagan_jax.data.captions import escape_terminal
from ssagan_jax.data.class_ids import class_ids
from ssagan_jax.data.ingest.scan import FAULTS, DatasetScan, ScanError

_LISTED = 10
Row = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class ScanReport:
    """A survey with the split that was drawn from it.

    Attributes:
      title: name and source of the data.
      survey: what was found.
      sides: "train" or "validation" for each of its entries.
      command: what trains on the data.
    """

    title: str
    survey: DatasetScan
    sides: Sequence[str]
    command: str

    def rows(self) -> list[Row]:
        """The figures, each with its name."""
        found = self.survey
        return [
            ("entries listed", f"{found.items:,}"),
            ("pictures to write", f"{len(found.entries):,}"),
            ("sentences to write", f"{sum(entry.sentences for entry in found.entries):,}"),
            *((f"of these in {side}", self._side(side)) for side in ("train", "validation")),
            ("sentences a picture", _spread(found.sentences)),
            ("words a sentence", _spread(found.words)),
            ("word pieces a sentence", _spread(found.tokens)),
            ("smaller edge in pixels", _spread(found.edges)),
            ("classes", self._balance()),
            *((kind, self._note(kind)) for kind in found.notes),
            *((kind, f"{len(self._faults(kind)):,}") for kind in FAULTS),
        ]

    def classes(self) -> dict[str, dict[str, int]]:
        """Pictures of each class on each side."""
        counts: dict[str, dict[str, int]] = {}
        for entry, side in zip(self.survey.entries, self.sides, strict=True):
            count = counts.setdefault(entry.label, {"train": 0, "validation": 0})
            count[side] += 1
        return {label: counts[label] for label in class_ids(set(counts))}

    def text(self) -> str:
        """A table for the terminal, and the first faults of each kind."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        lines = [
            escape_terminal(self.title),
            *(f"  {name:{width}}  {value}" for name, value in rows),
        ]
        for kind in FAULTS:
            faults = self._faults(kind)
            lines += [f"{kind}:"] if faults else []
            lines += [
                f"  {escape_terminal(f.name)}: {escape_terminal(f.reason)}"
                for f in faults[:_LISTED]
            ]
            more = len(faults) - _LISTED
            lines += [f"  ... and {more:,} more"] if more > 0 else []
        return "\n".join(lines)

    def markdown(self) -> str:
        """All of it."""
        lines = [f"# {escape_terminal(self.title)}", "", "| | |", "| --- | --- |"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in self.rows()]
        classes = self.classes()
        if len(classes) > 1:
            lines += ["", "| class | train | validation |", "| --- | --- | --- |"]
            lines += [
                f"| {_cell(label)} | {count['train']} | {count['validation']} |"
                for label, count in classes.items()
            ]
        if self.survey.faults:
            lines += ["", "Cannot be used:", "", "| entry | kind | reason |", "| --- | --- | --- |"]
            lines += [
                f"| {_cell(fault.name)} | {fault.kind} | {_cell(fault.reason)} |"
                for fault in self.survey.faults
            ]
        return "\n".join([*lines, "", "To train:", "", f"    {self.command}", ""])

    def json(self) -> dict[str, Any]:
        """Counts as numbers, for programs."""
        found = self.survey
        return {
            "entries": found.items,
            "pictures": len(found.entries),
            "sentences": sum(entry.sentences for entry in found.entries),
            "train": self.sides.count("train"),
            "validation": self.sides.count("validation"),
            "sentences_a_picture": _sorted(found.sentences),
            "words_a_sentence": _sorted(found.words),
            "word_pieces_a_sentence": _sorted(found.tokens),
            "smaller_edges": _sorted(found.edges),
            "classes": self.classes(),
            "notes": dict(found.notes),
            "examples": found.examples,
            "faults": [fault._asdict() for fault in found.faults],
            "command": self.command,
        }

    def _side(self, side: str) -> str:
        entries = [
            entry for entry, at in zip(self.survey.entries, self.sides, strict=True) if at == side
        ]
        sentences = sum(entry.sentences for entry in entries)
        return f"{len(entries):,} pictures, {sentences:,} sentences"

    def _balance(self) -> str:
        sizes = collections.Counter(entry.label for entry in self.survey.entries)
        if len(sizes) < 2:
            return "none"
        return f"{len(sizes):,}, of {min(sizes.values()):,} to {max(sizes.values()):,} pictures"

    def _note(self, kind: str) -> str:
        names = self.survey.examples.get(kind)
        return f"{self.survey.notes[kind]:,}" + (f" ({escape_terminal(names[0])})" if names else "")

    def _faults(self, kind: str) -> list[ScanError]:
        return [fault for fault in self.survey.faults if fault.kind == kind]


def _spread(values: collections.Counter[int]) -> str:
    """ "2 to 9, median 5" """
    if not values:
        return "none"
    median = statistics.median_low(list(values.elements()))
    return f"{min(values)} to {max(values)}, median {median}"


def _sorted(values: collections.Counter[int]) -> dict[str, int]:
    return {str(value): values[value] for value in sorted(values)}


def _cell(text: str) -> str:
    return escape_terminal(text).replace("|", "\\|")
