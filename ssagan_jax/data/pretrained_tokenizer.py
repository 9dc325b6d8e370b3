"""The tokenizer of a BERT model that was published on the Hugging Face hub."""

import json
import os

from ssagan_jax.data.tokenizer import Tokenizer, TokenizerError, checked_backend
from ssagan_jax.untrusted.files import check_regular_files, read_json
from ssagan_jax.untrusted.limits import TOKENIZER_BYTES
from ssagan_jax.untrusted.safetensors_files import panics_as_errors
from ssagan_jax.untrusted.tokenizer_files import check_pipeline

_NOTHING = {"padding": None, "truncation": None}  # Captions are padded and cut by us.


def pretrained_tokenizer(name: str) -> Tokenizer:
    """The WordPiece tokenizer of a Hugging Face name or folder.

    Raises:
      TokenizerError: it cannot be found, or is not WordPiece.
    """
    from transformers import AutoTokenizer

    key = f"config.tokenizer.pretrained={name!r}"
    try:
        if file := _published_file(name):
            check_pipeline(read_json(file, TOKENIZER_BYTES) | _NOTHING, None)
        with panics_as_errors():
            # Without the argument, transformers asks on the terminal whether to run the code there.
            found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        pipeline = json.loads(found.backend_tokenizer.to_str())
    except Exception as error:
        raise TokenizerError(
            f"{key}: no tokenizer could be loaded ({error}); give "
            "the name of a model on the Hugging Face hub or a folder with its tokenizer.json"
        ) from error
    if pipeline["model"]["type"] != "WordPiece":
        raise TokenizerError(f"{key}: not WordPiece; choose a BERT model")
    backend = checked_backend(pipeline | _NOTHING, "wordpiece")
    return Tokenizer("wordpiece", backend, learned=False)


def _published_file(name: str) -> str | None:
    """The path of tokenizer.json in a folder, the cache or the hub; None if there is none."""
    from transformers.utils import cached_file

    if os.path.isdir(name):
        check_regular_files(name)
        path = os.path.join(name, "tokenizer.json")
        return path if os.path.exists(path) else None
    try:
        return cached_file(name, "tokenizer.json")
    except OSError:
        return None
