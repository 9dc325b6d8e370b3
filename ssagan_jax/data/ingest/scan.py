"""Reads everything that a source lists once: what can be used, what cannot, and statistics.

Only a few numbers are kept of each picture, so memory hardly grows with their count.
"""

import collections
import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple

from ssagan_jax.atomic_files import name_full_disk
from ssagan_jax.data import captions
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.ingest.inspect_image import ImageInfo, inspect_image
from ssagan_jax.data.ingest.scan_journal import map_with_journal
from ssagan_jax.data.ordered_map import OrderedMap, ordered_map
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.limits import CAPTION_BYTES

# Errors: entries that are lost.
UNREADABLE = "pictures that cannot be read"
NO_SENTENCES = "pictures without sentences"
NO_PICTURE = "sentences without a picture"
UNUSABLE = "entries that cannot be used"
IN_BOTH_SPLITS = "training pictures that are also in validation"
ERROR_KINDS = (UNREADABLE, NO_SENTENCES, NO_PICTURE, UNUSABLE, IN_BOTH_SPLITS)

# Notes: oddities by which no picture is lost.
DUPLICATE = "exact duplicates of another picture"
MISLABELLED = "pictures with the extension of another format"
GREY = "pictures with hardly any colour"
REPEATED = "repeated sentences of one picture"
WORDLESS = "sentences without a word, skipped"
FOREIGN = "sentences that may not be English"
CONTROL = "sentences with control characters, replaced by blanks"
TOO_LONG = f"sentences of more than {CAPTION_BYTES} bytes, skipped"
NOT_UTF8 = "sentences that are not UTF-8"

_SAMPLES = 24
_EXAMPLES = 5
_VOCAB_SIZE = 30_000  # As config.tokenizer.vocab_size.


class ScanEntry(NamedTuple):
    """A usable picture: its index among the items, and what the split is chosen by."""

    index: int
    name: str
    label: str
    split: str
    digest: bytes
    sentences: int


class ScanError(NamedTuple):
    """An entry that cannot be used, one of ERROR_KINDS, and the reason."""

    kind: str
    name: str
    reason: str


def _counter() -> Any:
    return dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass
class DatasetScan:
    """What a source holds.

    Attributes:
      load_size: smaller edge, in pixels, at which images will be written.
      max_words: words of a sentence that a model reads.
      items: how many entries the source lists.
      entries: the usable ones, in the source's order.
      errors: the others, each once.
      notes: count of each kind of oddity.
      examples: the first few names for each kind of oddity.
      sentences, words, tokens, edges: histograms (value to count) of sentences per usable picture,
        words and word pieces per sentence, and the smaller edge in pixels.
      samples: usable items, drawn by a hash of their names.
    """

    load_size: int
    max_words: int
    items: int = 0
    entries: list[ScanEntry] = dataclasses.field(default_factory=list)
    errors: list[ScanError] = dataclasses.field(default_factory=list)
    notes: collections.Counter[str] = _counter()
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    sentences: collections.Counter[int] = _counter()
    words: collections.Counter[int] = _counter()
    tokens: collections.Counter[int] = _counter()
    edges: collections.Counter[int] = _counter()
    samples: list[Item] = dataclasses.field(default_factory=list)

    @property
    def overlong(self) -> str:
        """The kind of note for sentences that a model reads only in part."""
        return f"sentences of more than {self.max_words} words"

    @property
    def small(self) -> str:
        """The kind of note for pictures that have to be enlarged."""
        return f"pictures smaller than {self.load_size} pixels, enlarged"

    def __post_init__(self) -> None:
        kinds = (DUPLICATE, MISLABELLED, GREY, self.small, REPEATED, self.overlong, WORDLESS)
        self.notes.update(dict.fromkeys((*kinds, TOO_LONG, FOREIGN, CONTROL, NOT_UTF8), 0))

    def note(self, kind: str, name: str, count: int = 1) -> None:
        """Counts an oddity, and keeps the first names."""
        if count:
            self.notes[kind] += count
            names = self.examples.setdefault(kind, [])
            if len(names) < _EXAMPLES and name not in names:
                names.append(name)


def scan_dataset(
    items: Iterable[Item],
    *,
    load_size: int,
    max_words: int,
    journal: Path | None = None,
    run: OrderedMap = ordered_map,
) -> DatasetScan:
    """Reads every picture and sentence of a source once; see `DatasetScan`.

    Pictures are read by `run`, by default on all cores. Those that a `journal` of an interrupted
    scan lists are not decoded again.
    """
    scan = DatasetScan(load_size, max_words)
    samples: list[tuple[bytes, int, Item]] = []
    # Captions go to a file, since the tokenizer needs all of them twice.
    with (
        name_full_disk(Path(tempfile.gettempdir())),
        tempfile.TemporaryFile("w+", encoding="utf-8") as caption_file,
    ):
        checked = _check_items(items, load_size, journal, run)
        for index, (item, result) in enumerate(checked):
            scan.items += 1
            _add_sentences(scan, item)
            if isinstance(result, ScanError):
                scan.errors.append(result)
            else:
                _add_picture(scan, index, item, result)
                caption_file.writelines(f"{text}\n" for text in captions.usable(item.captions))
                rank = blake2b(item.name.encode(), digest_size=8).digest()
                samples.append((rank, index, item))
                samples = sorted(samples, key=lambda sample: sample[:2])[:_SAMPLES]
        _count_tokens(scan, caption_file)
    scan.samples = [item for _, _, item in sorted(samples, key=lambda sample: sample[1])]
    _find_duplicates(scan)
    return scan


def _check_items(
    items: Iterable[Item], load_size: int, journal: Path | None, run: OrderedMap
) -> Iterator[tuple[Item, ScanError | ImageInfo]]:
    if journal is None:
        return run(lambda item: _check_item(item, load_size), items)
    return map_with_journal(
        lambda item: _check_item(item, load_size),
        items,
        journal,
        to_json=_to_json,
        from_json=_from_json,
        # Rights, a network drive or Pillow may have been the reason.
        is_final=lambda result: not isinstance(result, ScanError) or result.kind != UNREADABLE,
        salt=str(load_size),
        run=run,
    )


def _to_json(result: ScanError | ImageInfo) -> list:
    if isinstance(result, ScanError):
        return list(result)
    return [result.size, result.digest.hex(), result.mislabelled, result.grey]


def _from_json(content: list) -> ScanError | ImageInfo:
    if len(content) == len(ScanError._fields):
        return ScanError(*content)
    size, digest, mislabelled, grey = content
    return ImageInfo(tuple(size), bytes.fromhex(digest), mislabelled, grey)


def _check_item(item: Item, load_size: int) -> ScanError | ImageInfo:
    """Why an item cannot be used, or else the properties of its picture."""
    if item.error:
        return ScanError(UNUSABLE, item.name, item.error)
    try:
        f"{item.name}{item.label}".encode()
    except UnicodeError:
        return ScanError(UNUSABLE, item.name, "the name is not UTF-8; rename it")
    if item.picture is None:
        return ScanError(NO_PICTURE, item.name, f"{len(item.captions)} sentences")
    if not captions.usable(item.captions):
        return ScanError(NO_SENTENCES, item.name, "no sentence with a word")
    try:
        return inspect_image(item, load_size)
    except DataError as error:
        return ScanError(UNREADABLE, item.name, str(error))


def _add_sentences(scan: DatasetScan, item: Item) -> None:
    for text in item.captions:
        if captions.is_too_long(text):
            scan.note(TOO_LONG, item.name)
            continue
        wordless = not captions.has_word(captions.clean(text))
        scan.note(WORDLESS, item.name, wordless)
        scan.note(FOREIGN, item.name, not wordless and captions.may_not_be_english(text))
        scan.note(scan.overlong, item.name, len(captions.words(text)) > scan.max_words)
        scan.note(CONTROL, item.name, captions.has_control(text))
        scan.note(NOT_UTF8, item.name, "\ufffd" in text)  # Stands for undecodable bytes.
    scan.note(REPEATED, item.name, len(item.captions) - len(set(item.captions)))


def _add_picture(scan: DatasetScan, index: int, item: Item, info: ImageInfo) -> None:
    kept = captions.usable(item.captions)
    scan.entries.append(ScanEntry(index, item.name, item.label, item.split, info.digest, len(kept)))
    scan.sentences[len(kept)] += 1
    scan.words.update(len(captions.words(text)) for text in kept)
    scan.edges[min(info.size)] += 1
    scan.note(MISLABELLED, item.name, info.mislabelled)
    scan.note(GREY, item.name, info.grey)
    scan.note(scan.small, item.name, min(info.size) < scan.load_size)


def _count_tokens(scan: DatasetScan, caption_file: IO[str]) -> None:
    """Counts the word pieces that a BERT trained on this data would read."""

    def read_captions() -> Iterator[str]:
        caption_file.seek(0)
        return (line.rstrip("\n") for line in caption_file)

    if scan.entries:
        tokenizer = learn_tokenizer("wordpiece", read_captions(), _VOCAB_SIZE)
        scan.tokens.update(len(tokenizer.ids(caption)) for caption in read_captions())


def _find_duplicates(scan: DatasetScan) -> None:
    """Notes duplicates; a training picture that is also in validation becomes an error."""
    validation = {entry.digest for entry in scan.entries if entry.split == "validation"}
    first: dict[bytes, str] = {}
    kept = []
    for entry in scan.entries:
        if entry.split != "validation" and entry.digest in validation:
            reason = "the same pixels are in validation"
            scan.errors.append(ScanError(IN_BOTH_SPLITS, entry.name, reason))
            continue
        kept.append(entry)
        if entry.digest in first:
            scan.note(DUPLICATE, entry.name)
        first.setdefault(entry.digest, entry.name)
    scan.entries = kept
