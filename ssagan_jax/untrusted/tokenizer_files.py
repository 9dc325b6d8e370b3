"""Builds a tokenizer of the tokenizers library from JSON of unknown origin.

The library is fast and trusts its file: one can make it replace a letter by a billion others, pad a
caption to any length, or panic. So it never reads one. The JSON is checked here, and every part is
built by its constructor. A file has the library's own layout, but does not depend on its version.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.safetensors_files import panics_as_errors

_MAX_PARTS = 10  # of a sequence of normalizers
_MAX_ADDED = 1000  # entries besides the vocabulary, such as "[CLS]"
_MAX_ADDED_LETTERS = 100
_MAX_PREFIX_LETTERS = 10
_MAX_TEMPLATE_LETTERS = 10_000

_FLAG = (True, False)
_Types = dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, ...]]]]
# By type: its constructor, and the values that its options may have.
_NORMALIZERS: _Types = {
    "BertNormalizer": (
        normalizers.BertNormalizer,
        dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), _FLAG)
        | {"strip_accents": (None, *_FLAG)},
    ),
    "Lowercase": (normalizers.Lowercase, {}),
    "StripAccents": (normalizers.StripAccents, {}),
    "NFC": (normalizers.NFC, {}),
    "NFD": (normalizers.NFD, {}),
    "NFKC": (normalizers.NFKC, {}),
    "NFKD": (normalizers.NFKD, {}),
}
_SPLITTERS: _Types = {
    "BertPreTokenizer": (pre_tokenizers.BertPreTokenizer, {}),
    "Whitespace": (pre_tokenizers.Whitespace, {}),
    "WhitespaceSplit": (pre_tokenizers.WhitespaceSplit, {}),
    "Punctuation": (lambda behavior="": pre_tokenizers.Punctuation(), {"behavior": ("Isolated",)}),
}
ADDED_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_PARTS = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"}
_PARTS |= {"post_processor", "decoder", "model"}


def _removed(pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}


def _word_parts(normalizers: list[dict[str, Any]], word: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": word}, "behavior": "Removed", "invert": True}
    return {"normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": split}


# Combining accents, and variation selectors of emoji. StripAccents would also remove the vowels of
# Hindi and the voicing of Japanese.
_ACCENTS = r"[\u0300-\u036f\u20d0-\u20ff\ufe00-\ufe0f]"
# Words without any ASCII character are kept, so that they are reported as unknown.
_FOREIGN = r"(?:(?![\x00-\x7f])[\p{L}\p{N}])+"
# How a caption is divided, in the layout of the tokenizers library's files.
WORD_PARTS = {
    "words": _word_parts(
        [{"type": "NFD"}, _removed(_ACCENTS), {"type": "Lowercase"}], r"[\p{L}\p{N}_][\w\p{N}]*"
    ),
    "listed_words": _word_parts(
        [{"type": "Lowercase"}, _removed(rf"(?<=[a-z0-9_]){_FOREIGN}|{_FOREIGN}(?=[a-z0-9_])")],
        r"[\p{L}\p{N}_]+",
    ),
}
BERT_PARTS = {
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}


def build_tokenizer(pipeline: Any, own_parts: dict[str, Any] | None) -> tokenizers.Tokenizer:
    """The library's tokenizer of a JSON object in the layout of the library's files.

    Args:
      pipeline: the object. What follows the division into tokens ("post_processor", "decoder") is
        checked, but not used.
      own_parts: its "normalizer" and "pre_tokenizer", for a tokenizer of whole words; None for
        WordPiece, which may have those of published BERT models.

    Raises:
      ValueError: a part is not allowed; the message names it.
    """
    _check(isinstance(pipeline, dict), "it is not an object")
    _check(pipeline.keys() == _PARTS, "one of its keys")
    for part in ("padding", "truncation"):
        _check(pipeline.get(part) is None, f"its {part}")
    for part in ("post_processor", "decoder"):
        value = pipeline.get(part)
        short = value is None or len(json.dumps(value)) <= _MAX_TEMPLATE_LETTERS
        known = ("TemplateProcessing", "BertProcessing", "WordPiece")
        _check(value is None or (short and _type(value) in known), f"its {part}")
    for part, value in (own_parts or {}).items():
        _check(pipeline.get(part) == value, f"its {part}")
    kind = "WordLevel" if own_parts else "WordPiece"
    with panics_as_errors():
        model = _build_model(pipeline.get("model"), kind)
        if own_parts:
            backend = untrained(model, own_parts)
        else:
            backend = tokenizers.Tokenizer(model)
            backend.normalizer = _build_part("normalizer", pipeline.get("normalizer"))
            backend.pre_tokenizer = _build_part("pre_tokenizer", pipeline.get("pre_tokenizer"))
        _add_tokens(backend, pipeline.get("added_tokens"))
    ids = sorted(backend.get_vocab().values())
    _check(ids == list(range(len(ids))), "its vocabulary, whose ids are not 0 to their number,")
    return backend


def word_piece_model(vocabulary: dict[str, int], unknown: str) -> dict[str, Any]:
    """BERT's "model" of a pipeline."""
    return {
        "type": "WordPiece",
        "vocab": vocabulary,
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }


def make_pipeline(
    model: dict[str, Any], parts: dict[str, Any], specials: Sequence[str]
) -> dict[str, Any]:
    """A pipeline in the layout of the tokenizers library's files.

    Args:
      model: its "model".
      parts: its "normalizer" and "pre_tokenizer".
      specials: entries of the vocabulary that are found in a caption before it is divided.
    """
    flags = dict.fromkeys(ADDED_FLAGS, False) | {"special": True}
    added = [{"id": model["vocab"][each], "content": each, **flags} for each in specials]
    nothing = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    return {"version": "1.0", **nothing, "added_tokens": added, **parts, "model": model}


def untrained(model: models.Model, parts: dict[str, Any]) -> tokenizers.Tokenizer:
    """The library's tokenizer of a model and this project's "normalizer" and "pre_tokenizer"."""
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = _build_own_part("normalizer", parts["normalizer"])
    backend.pre_tokenizer = _build_own_part("pre_tokenizer", parts["pre_tokenizer"])
    return backend


def _build_own_part(kind: str, part: dict[str, Any]) -> Any:
    """A "normalizer" or "pre_tokenizer" of a tokenizer of whole words, from its trusted JSON."""
    pattern = "Regex" in part.get("pattern", {}) and tokenizers.Regex(part["pattern"]["Regex"])
    if part["type"] == "Sequence":
        steps = [_build_own_part(kind, each) for each in part["normalizers"]]
        return normalizers.Sequence(steps)
    if part["type"] == "Replace":
        return normalizers.Replace(pattern, part["content"])
    if part["type"] == "Split":
        return pre_tokenizers.Split(pattern, part["behavior"].lower(), part["invert"])
    return _build_part(kind, part)


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"{what} is none that this project writes or BERT models have")


def _type(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def _build_part(kind: str, part: Any) -> Any:
    """A "normalizer" or "pre_tokenizer" of types that cannot make a text grow much, or several."""
    if part is None:
        return None
    known, sequence, key = {
        "normalizer": (_NORMALIZERS, normalizers.Sequence, "normalizers"),
        "pre_tokenizer": (_SPLITTERS, pre_tokenizers.Sequence, "pretokenizers"),
    }[kind]
    if _type(part) == "Sequence":
        steps = part.get(key)
        _check(isinstance(steps, list) and len(steps) <= _MAX_PARTS, f"its {kind}")
        _check(all(_type(step) in (*known,) for step in steps), f"its {kind}")
        return sequence([_build_part(kind, step) for step in steps])
    _check(_type(part) in (*known,), f"its {kind}")
    constructor, allowed = known[part["type"]]
    options = {name: value for name, value in part.items() if name != "type"}
    fits = all(value in allowed.get(name, ()) for name, value in options.items())
    _check(fits and (options.keys() == allowed.keys() or known is _SPLITTERS), f"its {kind}")
    return constructor(**options)


def _build_model(model: Any, kind: str) -> models.Model:
    _check(_type(model) == kind, "its model")
    vocabulary = model.get("vocab")
    fits = isinstance(vocabulary, dict) and len(vocabulary) <= limits.VOCABULARY
    _check(fits and all(map(_is_id, vocabulary.values())), "its vocabulary")
    _check(len(set(vocabulary.values())) == len(vocabulary), "its vocabulary of repeated ids")
    unknown = model.get("unk_token")
    _check(isinstance(unknown, str) and unknown in vocabulary, "its token for unknown words")
    if kind == "WordLevel":
        return models.WordLevel(vocabulary, unknown)
    letters = model.get("max_input_chars_per_word")
    _check(type(letters) is int and 0 < letters <= limits.WORD_PIECE_LETTERS, "its longest word")
    prefix = model.get("continuing_subword_prefix")
    _check(isinstance(prefix, str) and len(prefix) <= _MAX_PREFIX_LETTERS, "its prefix of pieces")
    options = {"max_input_chars_per_word": letters, "continuing_subword_prefix": prefix}
    return models.WordPiece(vocabulary, unk_token=unknown, **options)


def _add_tokens(backend: tokenizers.Tokenizer, added: Any) -> None:
    """Adds the entries that are found in a caption before it is divided into words."""
    added = [] if added is None else added
    _check(isinstance(added, list) and len(added) <= _MAX_ADDED, "its list of added tokens")
    for each in added:
        content = each.get("content") if isinstance(each, dict) else None
        fits = isinstance(content, str) and 0 < len(content) <= _MAX_ADDED_LETTERS
        fits = fits and all(each.get(flag) in _FLAG for flag in ADDED_FLAGS)
        _check(fits and _is_id(each.get("id")), f"its added token {each!r:.80}")
    for special, group in itertools.groupby(added, lambda each: each["special"]):
        tokens = [
            tokenizers.AddedToken(each["content"], **{flag: each[flag] for flag in ADDED_FLAGS})
            for each in group
        ]
        (backend.add_special_tokens if special else backend.add_tokens)(tokens)
    for each in added:
        _check(backend.token_to_id(each["content"]) == each["id"], f"its added token {each!r:.80}")


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < limits.VOCABULARY
