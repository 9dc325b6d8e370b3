"""The tokenizer of a BERT model that was published on the Hugging Face hub."""

import os
import re
from typing import Any

from ssagan_jax.data.tokenizer import PIECE_SPECIALS, Tokenizer, TokenizerError
from ssagan_jax.untrusted.files import read_json, read_text
from ssagan_jax.untrusted.limits import TOKENIZER_BYTES
from ssagan_jax.untrusted.published_files import find_published_file
from ssagan_jax.untrusted.tokenizer_files import (
    ADDED_FLAGS,
    BERT_PARTS,
    make_pipeline,
    word_piece_model,
)

# Classes of transformers, and values of "model_type", of BERT's tokenizer.
_BERT = r"(?i)((distil|mobile)?bert|electra)(tokenizer(fast)?)?"
# Settings of tokenizer_config.json by those of BERT's normalizer.
_OPTIONS = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}


def pretrained_tokenizer(name: str) -> Tokenizer:
    """The WordPiece tokenizer of a Hugging Face name or folder, with the ids of transformers.

    It is read from tokenizer.json or vocab.txt, and tokenizer_config.json; no code of transformers
    sees them.

    Raises:
      TokenizerError: it cannot be found, or is not WordPiece.
    """
    key = f"config.tokenizer.pretrained={name!r}"
    try:
        return Tokenizer("wordpiece", _pipeline(name), learned=False)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise TokenizerError(
            f"{key}: no tokenizer could be loaded ({error!s:.500}); give the name of a BERT model "
            "on the Hugging Face hub or a folder with its tokenizer.json or vocab.txt"
        ) from error


def _pipeline(name: str) -> dict[str, Any]:
    settings = _read_settings(name, "tokenizer_config.json")
    about = settings.get("tokenizer_class") or _read_settings(name, "config.json").get("model_type")
    is_bert = re.fullmatch(_BERT, str(about)) is not None
    parts = BERT_PARTS["normalizer"].copy()
    parts |= {ours: settings[theirs] for ours, theirs in _OPTIONS.items() if theirs in settings}
    parts = BERT_PARTS | {"normalizer": parts}
    path = find_published_file(name, "tokenizer.json", "vocab.txt")
    # A class of BERT goes before tokenizer.json, as in transformers.
    if os.path.basename(path) == "tokenizer.json":
        return _complete(read_json(path, TOKENIZER_BYTES)) | (parts if is_bert else {})
    if about and not is_bert:
        raise ValueError(f"a tokenizer of {about!r:.80}; choose a BERT model")
    entries = read_text(path, TOKENIZER_BYTES).replace("\r\n", "\n").removesuffix("\n").split("\n")
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    model = word_piece_model(vocabulary, PIECE_SPECIALS[1])
    return make_pipeline(model, parts, [each for each in PIECE_SPECIALS if each in vocabulary])


def _complete(published: dict[str, Any]) -> dict[str, Any]:
    """The pipeline of a tokenizer.json, also an old one that lacks a type; without unused parts."""
    model = published["model"]
    # A file of BERT's tokenizer may lack the type.
    if model.get("type", "WordPiece") != "WordPiece" or "merges" in model:
        raise ValueError("not WordPiece; choose a BERT model")
    flags = dict.fromkeys(ADDED_FLAGS, False)
    used = {part: published.get(part) for part in ("normalizer", "pre_tokenizer")}
    pipeline = make_pipeline(word_piece_model({}, PIECE_SPECIALS[1]) | model, used, ())
    added = [flags | token for token in published.get("added_tokens") or ()]
    return pipeline | {"added_tokens": added}


def _read_settings(name: str, file: str) -> dict[str, Any]:
    """The content of a JSON file; nothing if it is missing."""
    try:
        settings = read_json(find_published_file(name, file))
    except OSError:
        return {}
    if not isinstance(settings, dict):
        raise ValueError(f"{file} holds no settings")
    return settings
