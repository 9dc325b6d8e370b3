"""One pass over all that a source lists: what can be used, what cannot, and what it is like.

Of a picture only a few numbers are kept, so that memory hardly grows with their count.
"""

import collections
import dataclasses
import heapq
import tempfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import IO, NamedTuple

from ssagan_jax.data import captions
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.ingest.inspect_image import ImageInfo, inspect_image
from ssagan_jax.data.ordered_map import ordered_map
from ssagan_jax.data.tokenizer import learn_tokenizer

UNREADABLE = "pictures that cannot be read"
NO_SENTENCES = "pictures without sentences"
NO_PICTURE = "sentences without a picture"
UNUSABLE = "entries that cannot be used"
IN_BOTH = "training pictures that are in validation too"
FAULTS = (UNREADABLE, NO_SENTENCES, NO_PICTURE, UNUSABLE, IN_BOTH)

WORDLESS = "sentences without a word, left out"
FOREIGN = "sentences that may not be English"
CONTROL = "sentences with control characters, written as blanks"
NOT_UTF8 = "sentences that are not UTF-8"
REPEATED = "sentences that repeat one of the same picture"
DUPLICATE = "pictures that repeat another exactly"
GREY = "pictures with hardly any colour"
MISLABELLED = "pictures under an ending of another format"

_SAMPLES = 24
_EXAMPLES = 5
_VOCABULARY = 30_000  # As config.tokenizer.vocab_size.


class ScanEntry(NamedTuple):
    """A usable picture: its place among the items, and what the split goes by."""

    index: int
    name: str
    label: str
    split: str
    digest: bytes
    sentences: int


class ScanError(NamedTuple):
    """What would be lost, and why."""

    kind: str
    name: str
    reason: str


@dataclasses.dataclass
class DatasetScan:
    """What a source holds.

    Attributes:
      load_size: pixels that the smaller edge will have.
      max_words: words that a model sees of a sentence.
      items: how many entries the source lists.
      entries: the usable ones, in the source's order.
      faults: those that are not, each once.
      notes: how often each oddity that loses nothing was met.
      examples: a few names for each oddity that was.
      sentences, words, tokens, edges: how many sentences a usable picture has, words and word
        pieces a sentence, and pixels the smaller edge; each value with its count.
      samples: usable items, drawn by their names.
    """

    load_size: int
    max_words: int
    items: int = 0
    entries: list[ScanEntry] = dataclasses.field(default_factory=list)
    faults: list[ScanError] = dataclasses.field(default_factory=list)
    notes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    sentences: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    words: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    tokens: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    edges: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    samples: list[Item] = dataclasses.field(default_factory=list)

    @property
    def overlong(self) -> str:
        """What sentences are called that a model sees in part."""
        return f"sentences of more than {self.max_words} words"

    @property
    def small(self) -> str:
        """What pictures are called that have to be enlarged."""
        return f"pictures smaller than {self.load_size} pixels, enlarged"

    def __post_init__(self) -> None:
        kinds = (DUPLICATE, MISLABELLED, GREY, self.small, REPEATED, self.overlong, WORDLESS)
        for kind in (*kinds, FOREIGN, CONTROL, NOT_UTF8):
            self.notes[kind] = 0

    def note(self, kind: str, name: str, count: int = 1) -> None:
        """Counts an oddity, and keeps the first names."""
        if count:
            self.notes[kind] += count
            names = self.examples.setdefault(kind, [])
            if len(names) < _EXAMPLES and name not in names:
                names.append(name)


def scan_dataset(items: Iterable[Item], *, load_size: int, max_words: int) -> DatasetScan:
    """Reads every picture and every sentence once.

    Args:
      items: of one source.
      load_size: pixels that the smaller edge will have.
      max_words: words that a model sees of a sentence.
    """
    found = DatasetScan(load_size, max_words)
    drawn: list[tuple[int, int, Item]] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
        for item, seen in ordered_map(lambda item: _judged(item, load_size), items):
            index, found.items = found.items, found.items + 1
            _count_sentences(found, item)
            if isinstance(seen, ScanError):
                found.faults.append(seen)
                continue
            _count_picture(found, index, item, seen)
            spool.writelines(f"{text}\n" for text in captions.usable(item.captions))
            draw = -int.from_bytes(blake2b(item.name.encode(), digest_size=8).digest())
            (heapq.heappush if len(drawn) < _SAMPLES else heapq.heappushpop)(
                drawn, (draw, -index, item)
            )
        _count_tokens(found, spool)
    found.samples = [item for _, _, item in sorted(drawn, key=lambda one: -one[1])]
    _note_duplicates(found)
    return found


def _judged(item: Item, load_size: int) -> ScanError | ImageInfo:
    """What is wrong with an item, or else what its picture is."""
    if item.fault:
        return ScanError(UNUSABLE, item.name, item.fault)
    try:
        f"{item.name}{item.label}".encode()
    except UnicodeError:
        return ScanError(UNUSABLE, item.name, "the name is not UTF-8; rename it")
    if item.picture is None:
        return ScanError(NO_PICTURE, item.name, f"{len(item.captions)} sentences")
    if not captions.usable(item.captions):
        return ScanError(NO_SENTENCES, item.name, "no sentence with a word")
    seen = inspect_image(item, load_size)
    return ScanError(UNREADABLE, item.name, seen.fault) if seen.fault else seen


def _count_sentences(found: DatasetScan, item: Item) -> None:
    for text in item.captions:
        wordless = not captions.has_word(captions.clean(text))
        found.note(WORDLESS, item.name, wordless)
        found.note(FOREIGN, item.name, not wordless and captions.may_not_be_english(text))
        found.note(found.overlong, item.name, len(captions.words(text)) > found.max_words)
        found.note(CONTROL, item.name, captions.has_control(text))
        found.note(NOT_UTF8, item.name, captions.is_not_utf8(text))
    found.note(REPEATED, item.name, len(item.captions) - len(set(item.captions)))


def _count_picture(found: DatasetScan, index: int, item: Item, seen: ImageInfo) -> None:
    kept = captions.usable(item.captions)
    found.entries.append(
        ScanEntry(index, item.name, item.label, item.split, seen.digest, len(kept))
    )
    found.sentences[len(kept)] += 1
    found.words.update(len(captions.words(text)) for text in kept)
    found.edges[min(seen.size)] += 1
    found.note(MISLABELLED, item.name, bool(seen.written_as))
    found.note(GREY, item.name, seen.grey)
    found.note(found.small, item.name, min(seen.size) < found.load_size)


def _count_tokens(found: DatasetScan, spool: IO[str]) -> None:
    """Counts the word pieces that a BERT of this data will see."""

    def sentences() -> Iterator[str]:
        spool.seek(0)
        return (line.rstrip("\n") for line in spool)

    if found.entries:
        tokenizer = learn_tokenizer("wordpiece", sentences(), _VOCABULARY)
        found.tokens.update(len(tokenizer.ids(sentence)) for sentence in sentences())


def _note_duplicates(found: DatasetScan) -> None:
    """Notes pictures seen before; a training picture that is in validation too is a fault."""
    held_out = {entry.digest for entry in found.entries if entry.split == "validation"}
    first: dict[bytes, str] = {}
    kept = []
    for entry in found.entries:
        if entry.split != "validation" and entry.digest in held_out:
            found.faults.append(ScanError(IN_BOTH, entry.name, "the same pixels are in validation"))
            continue
        kept.append(entry)
        if entry.digest in first:
            found.note(DUPLICATE, entry.name)
        first.setdefault(entry.digest, entry.name)
    found.entries = kept
