"""The vocabulary inside a captions.pickle of AttnGAN, DF-GAN and SSA-GAN.

The file is a list of four: captions of both splits as lists of ids, word by id, and id by word
(the reference's datasets.py). Id 0 is "<end>", which is the padding.
"""

import os
import pickle
from collections.abc import Sequence

from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.data.tokenizer import FIXED_VOCAB_PAD
from ssagan_jax.errors import DataError


def load_words(path: str | os.PathLike[str]) -> list[str]:
    """The vocabulary, words in the order of their ids; code in the file is not run.

    Raises:
      DataError: the file is missing or damaged, calls a function, or is not a captions.pickle.
    """
    content = load_pickle(path, encoding="latin1")
    if not isinstance(content, list | tuple) or len(content) < 4:
        raise DataError(f"{path}: not a captions.pickle (a list of captions, captions, words, ids)")
    words, ids = content[2], content[3]
    if not isinstance(words, dict) or set(words) != set(range(len(words))):
        raise DataError(f"{path}: its third part is not a dictionary of words by the ids 0, 1, ...")
    listed = [words[index] for index in range(len(words))]
    if not all(isinstance(word, str) for word in listed) or listed[:1] != [FIXED_VOCAB_PAD]:
        raise DataError(f"{path}: its words must be texts, the first one {FIXED_VOCAB_PAD!r}")
    if ids != {word: index for index, word in enumerate(listed)} or len(ids) < len(listed):
        raise DataError(f"{path}: its third and fourth part, words and ids, do not agree")
    return listed


def save_words(path: str | os.PathLike[str], words: Sequence[str]) -> None:
    """Writes a captions.pickle of words in the order of their ids, without captions.

    The first word, whatever its name, is the padding and becomes "<end>".
    """
    by_id = dict(enumerate([FIXED_VOCAB_PAD, *words[1:]]))
    with open(path, "wb") as file:
        pickle.dump([[], [], by_id, {word: index for index, word in by_id.items()}], file, 2)
