"""The report on a scan: a table for the terminal, Markdown, and JSON."""

import collections
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssagan_jax.data.class_ids import class_ids
from ssagan_jax.data.ingest.scan import ERROR_KINDS, DatasetScan, ScanError
from ssagan_jax.errors import InputError, escape_terminal

_MAX_LISTED = 10
Row = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class ScanReport:
    """A scan and the split that was drawn for it.

    Attributes:
      title: name and source of the data.
      scan: what was found.
      splits: "train" or "validation" for each of its entries.
      command: the command that trains on the data.
    """

    title: str
    scan: DatasetScan
    splits: Sequence[str]
    command: str

    def rows(self) -> list[Row]:
        """The figures, each with its name."""
        scan = self.scan
        return [
            ("entries listed", f"{scan.items:,}"),
            ("pictures to write", f"{len(scan.entries):,}"),
            ("sentences to write", f"{sum(entry.sentences for entry in scan.entries):,}"),
            *((f"of these in {split}", self._size(split)) for split in ("train", "validation")),
            ("sentences per picture", _range(scan.sentences)),
            ("words per sentence", _range(scan.words)),
            ("word pieces per sentence", _range(scan.tokens)),
            ("smaller edge in pixels", _range(scan.edges)),
            ("classes", self._class_sizes()),
            *((kind, self._note(kind)) for kind in scan.notes),
            *((kind, f"{len(self._errors(kind)):,}") for kind in ERROR_KINDS),
        ]

    def classes(self) -> dict[str, dict[str, int]]:
        """Pictures of each class in each split."""
        counts: dict[str, dict[str, int]] = {}
        for entry, split in zip(self.scan.entries, self.splits, strict=True):
            count = counts.setdefault(entry.label, {"train": 0, "validation": 0})
            count[split] += 1
        return {label: counts[label] for label in class_ids(set(counts))}

    def text(self) -> str:
        """A table for the terminal, and the first errors of each kind."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        lines = [escape_terminal(self.title)]
        lines += [f"  {name:{width}}  {value}" for name, value in rows]
        for kind in ERROR_KINDS:
            errors = self._errors(kind)
            lines += [f"{kind}:"] if errors else []
            listed = (f"  {error.name}: {error.reason}" for error in errors[:_MAX_LISTED])
            lines += map(escape_terminal, listed)
            more = len(errors) - _MAX_LISTED
            lines += [f"  ... and {more:,} more"] if more > 0 else []
        return "\n".join(lines)

    def markdown(self) -> str:
        """The table, the sizes of the classes, and all errors."""
        lines = [f"# {escape_terminal(self.title)}", "", "| | |", "| --- | --- |"]
        lines += [_row(*row) for row in self.rows()]
        classes = self.classes()
        if len(classes) > 1:
            lines += ["", "| class | train | validation |", "| --- | --- | --- |"]
            lines += [_row(label, *count.values()) for label, count in classes.items()]
        if self.scan.errors:
            lines += ["", "Cannot be used:", "", "| entry | kind | reason |", "| --- | --- | --- |"]
            lines += [_row(error.name, error.kind, error.reason) for error in self.scan.errors]
        return "\n".join([*lines, "", "To train:", "", f"    {self.command}", ""])

    def json(self) -> dict[str, Any]:
        """Counts as numbers, for programs."""
        scan = self.scan
        return {
            "entries": scan.items,
            "pictures": len(scan.entries),
            "sentences": sum(entry.sentences for entry in scan.entries),
            "train": self.splits.count("train"),
            "validation": self.splits.count("validation"),
            "sentences_per_picture": _histogram(scan.sentences),
            "words_per_sentence": _histogram(scan.words),
            "word_pieces_per_sentence": _histogram(scan.tokens),
            "smaller_edges": _histogram(scan.edges),
            "classes": self.classes(),
            "notes": dict(scan.notes),
            "examples": scan.examples,
            "errors": [error._asdict() for error in scan.errors],
            "command": self.command,
        }

    def _size(self, split: str) -> str:
        pairs = zip(self.scan.entries, self.splits, strict=True)
        sentences = [entry.sentences for entry, chosen in pairs if chosen == split]
        return f"{len(sentences):,} pictures, {sum(sentences):,} sentences"

    def _class_sizes(self) -> str:
        sizes = collections.Counter(entry.label for entry in self.scan.entries)
        if len(sizes) < 2:
            return "none"
        return f"{len(sizes):,}, of {min(sizes.values()):,} to {max(sizes.values()):,} pictures"

    def _note(self, kind: str) -> str:
        names = self.scan.examples.get(kind)
        return f"{self.scan.notes[kind]:,}" + (f" ({escape_terminal(names[0])})" if names else "")

    def _errors(self, kind: str) -> list[ScanError]:
        return [error for error in self.scan.errors if error.kind == kind]


def _range(histogram: collections.Counter[int]) -> str:
    """ "2 to 9, median 5" """
    if not histogram:
        return "none"
    median = statistics.median_low(list(histogram.elements()))
    return f"{min(histogram)} to {max(histogram)}, median {median}"


def _histogram(counts: collections.Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}


def _row(*cells: str | int) -> str:
    texts = (escape_terminal(str(cell)).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def report_folder(flag: str, dry_run: bool, source: Path) -> str:
    """The folder for the report by --report, "" for none; the current one in a dry run.

    Raises:
      InputError: it is in the source, where the contact sheet would be taken for a picture.
    """
    folder = flag or ("." if dry_run else "")
    if not folder or not Path(folder).resolve().is_relative_to(source.resolve()):
        return folder
    if flag:
        raise InputError(
            f"--report={flag}: is in the source, whose pictures contact_sheet.png would join; "
            "choose another folder"
        )
    print("no files of the report are written, since this folder is in the source; use --report")
    return ""
