"""What is kept of a sentence that people wrote, and what is told about it."""

import re
import unicodedata
from collections.abc import Sequence

# Common words of captions; hardly a sentence of some length has none of them.
_ENGLISH = frozenset(
    "a an and are as at be by for from has have her his in is it its of on one or that the their "
    "there these this to two very was which white with".split()
)
_SHORT = 4  # Words that a sentence may have without any of those.
_LATIN = re.compile(r"[a-z]")


def clean(sentence: str) -> str:
    """The sentence with blanks for control characters and for halves of surrogate pairs."""
    if not sentence.isprintable():
        sentence = "".join(" " if _is_control(letter) else letter for letter in sentence)
    return sentence.strip()


def usable(sentences: Sequence[str]) -> list[str]:
    """The cleaned sentences, without those that hold no word."""
    return [text for text in map(clean, sentences) if has_word(text)]


def has_word(sentence: str) -> bool:
    """Whether there is a letter or a digit, as all tokenizers here ask for."""
    return any(letter.isalpha() or letter.isdecimal() for letter in sentence)


def words(sentence: str) -> list[str]:
    """Lower-case words of letters, digits and underscores."""
    return re.findall(r"\w+", sentence.lower())


def has_control(sentence: str) -> bool:
    """Whether the sentence, as found, holds what `cleaned` takes out within it."""
    return not sentence.isprintable() and any(map(_is_control, sentence.strip()))


def is_not_utf8(sentence: str) -> bool:
    """Whether it holds the mark that stands for bytes of another encoding."""
    return "\ufffd" in sentence


def may_not_be_english(sentence: str) -> bool:
    """A guess by letters beyond a to z (accents aside), and by the lack of common words."""
    found = words(sentence)
    plain = unicodedata.normalize("NFD", "".join(found))
    letters = [letter for letter in plain if letter.isalpha()]
    if any(not _LATIN.match(letter) for letter in letters):
        return True
    return len(found) > _SHORT and _ENGLISH.isdisjoint(found)


def escape_terminal(text: str) -> str:
    """The text for a terminal: nothing in it moves the cursor or changes colours."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode()
        for letter in text
    )


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs")
