"""The vocabulary inside a captions.pickle of AttnGAN, DF-GAN and SSA-GAN.

The file is a list of four: captions of both splits as lists of ids, word by id, and id by word
(the reference's datasets.py). Id 0 is "<end>", which is the padding.
"""

import os
import pickle
from collections.abc import Sequence

from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.data.tokenizer import FIXED_VOCAB_PAD


def load_words(path: str | os.PathLike[str]) -> list[str]:
    """Words by id; the file's code, if it has any, is not run.

    Raises:
      DataError: the file is missing, damaged or asks for code, or holds no such vocabulary.
    """
    content = load_pickle(path, encoding="latin1")
    if not isinstance(content, list | tuple) or len(content) < 4:
        raise DataError(f"{path}: not a captions.pickle (a list of captions, captions, words, ids)")
    words, ids = content[2], content[3]
    if not isinstance(words, dict) or set(words) != set(range(len(words))):
        raise DataError(f"{path}: its third part is not a dictionary of words by the ids 0, 1, ...")
    listed = [words[index] for index in range(len(words))]
    if not all(isinstance(word, str) for word in listed) or listed[:1] != [FIXED_VOCAB_PAD]:
        raise DataError(
            f"{path}: its words are not texts, of which the first is {FIXED_VOCAB_PAD!r}"
        )
    if ids != {word: index for index, word in enumerate(listed)} or len(ids) < len(listed):
        raise DataError(f"{path}: its third and fourth part, words and ids, contradict each other")
    return listed


def save_words(path: str | os.PathLike[str], words: Sequence[str]) -> None:
    """Writes a captions.pickle of words by id, without captions, as plain data.

    The first word, whatever its name, is the padding and becomes "<end>".
    """
    by_id = dict(enumerate([FIXED_VOCAB_PAD, *words[1:]]))
    with open(path, "wb") as file:
        pickle.dump([[], [], by_id, {word: index for index, word in by_id.items()}], file, 2)
