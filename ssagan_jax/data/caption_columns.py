"""Which columns of a table, or keys of a JSON object, hold captions."""

import re
from collections.abc import Iterable
from typing import Any

CAPTION_COLUMNS = ("captions", "caption", "sentences", "sentence", "texts", "text")
CAPTION_COLUMNS += ("descriptions", "description", "prompt", "prompts", "txt")
INNER_TEXTS = (
    "raw",
    "text",
    "caption",
    "sentence",
)  # Of a sentence that comes with its tokens or ids.


def guess_caption_columns(names: Iterable[str]) -> tuple[str, ...]:
    """The columns with the first of the usual names, such as "caption" or "caption_0", ...

    Case does not matter. () if no column has a usual name.
    """
    names = list(names)
    for usual in CAPTION_COLUMNS:
        found = [name for name in names if re.fullmatch(rf"{usual}(_?\d+)?", name, re.IGNORECASE)]
        if found:
            return tuple(found)
    return ()


def texts_of(value: Any) -> tuple[str, ...] | None:
    """The sentences of a cell: a text, a list of texts, or of objects with a text; None if none.

    A missing value (None) has no sentences, ().
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, dict):
        return texts_of(next((value[key] for key in INNER_TEXTS if key in value), 0))
    if not isinstance(value, list | tuple):
        return None
    found = [texts_of(each) for each in value]
    return None if None in found else tuple(text for texts in found for text in texts)
