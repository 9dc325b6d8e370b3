"""Which columns of a table, or keys of a JSON object, hold captions or name pictures."""

import re
from collections.abc import Iterable
from typing import Any

CAPTION_COLUMNS = ("captions", "caption", "sentences", "sentence", "texts", "text")
CAPTION_COLUMNS += ("descriptions", "description", "prompt", "prompts", "txt")
CAPTION_COLUMNS += ("comments", "comment", "caption_str")  # Of Flickr30k and TextCaps.
PICTURE_COLUMNS = ("file_name", "filename", "file", "image_name", "image", "image_path", "filepath")
PICTURE_COLUMNS += ("file_path", "path", "img", "image_id", "name")
INNER_TEXTS = ("raw", "text", "caption", "sentence")  # Beside the sentence's tokens or ids.


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


def holds_text(feature: Any) -> bool:
    """Whether a column holds texts, lists of them, or objects with a text.

    Args:
      feature: of the package `datasets`.
    """
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
    if inner is not None:
        return holds_text(inner)
    if isinstance(feature, dict):
        return any(key in feature and holds_text(feature[key]) for key in INNER_TEXTS)
    return "string" in getattr(feature, "dtype", "")
