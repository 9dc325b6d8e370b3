"""Checks the JSON of a tokenizer before the tokenizers library sees it.

The library is fast and trusts its file: one can make it replace a letter by a billion others, pad a
caption to any length, or panic. So only the parts that tokenizers of this project have are allowed.
"""

import json
from typing import Any

from ssagan_jax.untrusted import limits

_NORMALIZERS = ("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD")
_SPLITTERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation")
_SEQUENCES = {"normalizers": _NORMALIZERS, "pretokenizers": _SPLITTERS}
_MAX_PARTS = 10  # of a sequence of normalizers
_MAX_ADDED = 1000  # entries besides the vocabulary, such as "[CLS]"
_MAX_ADDED_LETTERS = 100
_MAX_TEMPLATE_LETTERS = 10_000


def check_pipeline(pipeline: Any, own_parts: dict[str, Any] | None) -> None:
    """Checks the JSON object that the tokenizers library reads.

    Args:
      pipeline: the object.
      own_parts: its "normalizer" and "pre_tokenizer", for a tokenizer of whole words; None for
        WordPiece, which may have those of published BERT models.

    Raises:
      ValueError: a part is not allowed; the message names it.
    """
    _check(isinstance(pipeline, dict), "it is not an object")
    for part, key in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        value = pipeline.get(part)
        fits = _is_plain(value, key) if own_parts is None else value == own_parts[part]
        _check(fits, f"its {part}")
    for part in ("padding", "truncation"):
        _check(pipeline.get(part) is None, f"its {part}")
    for part in ("post_processor", "decoder"):
        value = pipeline.get(part)
        short = value is None or len(json.dumps(value)) <= _MAX_TEMPLATE_LETTERS
        known = ("TemplateProcessing", "BertProcessing", "WordPiece")
        _check(value is None or (short and _type(value) in known), f"its {part}")
    _check_added(pipeline.get("added_tokens"))
    _check_model(pipeline.get("model"), "WordPiece" if own_parts is None else "WordLevel")


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"{what} is none that this project writes or BERT models have")


def _type(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def _is_plain(part: Any, key: str) -> bool:
    """Whether a part has one of the types that cannot make a text grow much, or is a list of it."""
    if _type(part) == "Sequence":
        parts = part.get(key)
        few = isinstance(parts, list) and len(parts) <= _MAX_PARTS
        return few and all(_type(each) in _SEQUENCES[key] for each in parts)
    return part is None or _type(part) in _SEQUENCES[key]


def _check_added(added: Any) -> None:
    """Checks the entries that are found in a caption before it is divided into words."""
    added = [] if added is None else added
    _check(isinstance(added, list) and len(added) <= _MAX_ADDED, "its list of added tokens")
    for each in added:
        content = each.get("content") if isinstance(each, dict) else None
        fits = isinstance(content, str) and 0 < len(content) <= _MAX_ADDED_LETTERS
        _check(fits and _is_id(each.get("id")), f"its added token {each!r:.80}")


def _check_model(model: Any, kind: str) -> None:
    _check(_type(model) == kind, "its model")
    vocabulary = model.get("vocab")
    fits = isinstance(vocabulary, dict) and len(vocabulary) <= limits.VOCABULARY
    _check(fits and all(map(_is_id, vocabulary.values())), "its vocabulary")
    _check(len(set(vocabulary.values())) == len(vocabulary), "its vocabulary of repeated ids")
    _check(model.get("unk_token") in vocabulary, "its token for unknown words")
    letters = model.get("max_input_chars_per_word", 100)
    _check(type(letters) is int and 0 < letters <= limits.WORD_PIECE_LETTERS, "its longest word")


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < limits.VOCABULARY
