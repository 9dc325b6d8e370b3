"""Cleans captions that people wrote, and detects oddities to report."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from ssagan_jax.untrusted.limits import CAPTION_BYTES

# Common words of captions; few sentences of some length have none of them.
_ENGLISH = frozenset(
    "a an and are as at be by for from has have her his in is it its of on one or that the their "
    "there these this to two very was which white with".split()
)
_MAX_WITHOUT = 4  # Words of a sentence that may have none of those.
_OTHER_SIDE = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(?:left|right)(?=(?:most|wards?)?\b)", re.IGNORECASE)


def clean(sentence: str) -> str:
    """Replaces control characters and halves of surrogate pairs by blanks."""
    if not sentence.isprintable():
        sentence = "".join(" " if _is_control(letter) else letter for letter in sentence)
    return sentence.strip()


def usable(sentences: Sequence[str]) -> list[str]:
    """The cleaned sentences that have a word and are not too long."""
    short = (text for text in sentences if not is_too_long(text))
    return [text for text in map(clean, short) if has_word(text)]


def is_too_long(sentence: str) -> bool:
    """Whether a sentence has more bytes than tokenizers read (`CAPTION_BYTES`)."""
    length = len(sentence)
    return 4 * length > CAPTION_BYTES and (
        length > CAPTION_BYTES or len(sentence.encode("utf-8", "replace")) > CAPTION_BYTES
    )


def has_word(sentence: str) -> bool:
    """Whether there is a letter or a digit, which all tokenizers here need."""
    return any(letter.isalpha() or letter.isdecimal() for letter in sentence)


def words(sentence: str) -> list[str]:
    """Lower-case words of letters, digits and underscores."""
    return re.findall(r"\w+", sentence.lower())


def mirror_caption(sentence: str) -> str:
    """The caption of the mirrored image: "left" and "right" are exchanged, in "leftmost" too."""
    return _SIDE.sub(_other_side, sentence)


def with_mirrored(sentences: Iterable[str]) -> Iterator[str]:
    """Sentences, each followed by its mirrored one if that differs."""
    for sentence in sentences:
        yield from dict.fromkeys((sentence, mirror_caption(sentence)))


def _other_side(side: re.Match[str]) -> str:
    other = _OTHER_SIDE[side[0].lower()]
    return other.capitalize() if side[0][0].isupper() else other


def has_control(sentence: str) -> bool:
    """Whether the sentence has inner characters that `clean` replaces."""
    return not sentence.isprintable() and any(map(_is_control, sentence.strip()))


def may_not_be_english(sentence: str) -> bool:
    """A guess: it has letters other than a to z (accents aside), or no common word."""
    found = words(sentence)
    plain = unicodedata.normalize("NFD", "".join(found))
    if any(letter.isalpha() and not "a" <= letter <= "z" for letter in plain):
        return True
    return len(found) > _MAX_WITHOUT and _ENGLISH.isdisjoint(found)


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs")
