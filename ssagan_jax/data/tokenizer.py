"""Captions to token ids: words of the training captions or of a fixed list, or WordPiece for BERT.

All are pipelines of the `tokenizers` library, so one file format in the work folder suffices.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.errors import InputError
from ssagan_jax.models.vocabulary import Vocabulary

WORD_PAD, WORD_UNKNOWN = "<pad>", "<unk>"
# Combining accents, and variation selectors of emoji.
_ACCENTS = r"[\u0300-\u036f\u20d0-\u20ff\ufe00-\ufe0f]"
_WORD = r"[\p{L}\p{N}_][\w\p{N}]*"
PIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FIXED_VOCAB_PAD, _DROPPED = "<end>", "<left out>"
# By kind: padding, unknown words, and BERT's first and last token.
_SPECIALS = {
    "words": (WORD_PAD, WORD_UNKNOWN, WORD_PAD, WORD_PAD),
    "listed_words": (FIXED_VOCAB_PAD, _DROPPED, FIXED_VOCAB_PAD, FIXED_VOCAB_PAD),
    "wordpiece": PIECE_SPECIALS[:4],
}


class TokenizerError(InputError):
    """A tokenizer cannot be made or read, or a caption has no word."""


class Tokenizer:
    """Ids of a caption's words or word pieces, without [CLS] and [SEP].

    Attributes:
      kind: "words", "wordpiece", or "listed_words", which drops unknown words.
      learned: whether the vocabulary was learned from captions; then a word in several pieces did
        not occur in training.
    """

    def __init__(self, kind: str, backend: tokenizers.Tokenizer, learned: bool) -> None:
        if kind == "words":
            # "<pad>" in a caption is a word, not the padding.
            backend.encode_special_tokens = True
        self.kind = kind
        self.learned = learned
        self._backend = backend
        names = _SPECIALS[kind]
        ids = [backend.token_to_id(name) for name in names]
        if None in ids:
            raise TokenizerError(
                f"the {kind} vocabulary lacks {names[ids.index(None)]!r}: it must have "
                f"{', '.join(dict.fromkeys(names))}"
            )
        self.pad_id, self.unknown_id, cls_id, sep_id = ids
        # The token for dropped words has the last id, but no row in an embedding table.
        size = backend.get_vocab_size() - (kind == "listed_words")
        self.vocabulary = Vocabulary(size, self.pad_id, cls_id, sep_id)

    def ids(self, caption: str) -> list[int]:
        """Ids of all words or word pieces of a caption, of any length."""
        ids = self._backend.encode(caption, add_special_tokens=False).ids
        return [token for token in ids if token < self.vocabulary.size]

    def entries(self) -> list[str]:
        """The vocabulary in the order of the ids."""
        return [self._backend.id_to_token(token) for token in range(self.vocabulary.size)]

    def encode(
        self, caption: str, length: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids i32[length] and mask bool[length] of a caption.

        In training, `rng` chooses which tokens of an overlong caption are kept, in order (the
        reference's datasets.py); without it the first ones are.

        Raises:
          TokenizerError: the caption has no word, or none that is in the vocabulary.
        """
        ids = np.asarray(self.ids(caption), np.int32)
        if not len(ids):
            problem = "has no word: give a sentence with letters"
            if unknown := self.unknown_words(caption):
                problem = f"has no word of the vocabulary, only {', '.join(unknown)}"
            raise TokenizerError(f"caption {caption!r} {problem}")
        if len(ids) > length and rng is not None:
            ids = ids[np.sort(rng.permutation(len(ids))[:length])]
        ids = ids[:length]
        tokens = np.full(length, self.pad_id, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(length) < len(ids)

    def unknown_words(self, caption: str) -> list[str]:
        """Words of a caption that did not occur in training, in order, each once."""
        encoding = self._backend.encode(caption, add_special_tokens=False)
        pieces = zip(encoding.word_ids, encoding.ids, encoding.offsets, strict=True)
        unknown = []
        for _, parts in itertools.groupby(pieces, key=lambda piece: piece[0]):
            _, ids, spans = zip(*parts, strict=True)
            if self.unknown_id in ids or (self.learned and len(ids) > 1):
                unknown.append(caption[spans[0][0] : spans[-1][1]])
        # WordPiece treats every punctuation mark as a word.
        return [word for word in dict.fromkeys(unknown) if any(map(str.isalnum, word))]

    @property
    def digest(self) -> str:
        """SHA-256 of the tokenizer's file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the tokenizer to a JSON file."""
        write_atomically(path, self.to_json())

    def to_json(self) -> str:
        """The content of the tokenizer's file."""
        backend = json.loads(self._backend.to_str())
        content = {"kind": self.kind, "learned": self.learned, "tokenizer": backend}
        return json.dumps(content, ensure_ascii=False, sort_keys=True)


def tokenizer_from_json(text: str) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_json` wrote; raises any exception for other texts."""
    content = json.loads(text)
    backend = tokenizers.Tokenizer.from_str(json.dumps(content["tokenizer"]))
    return Tokenizer(content["kind"], backend, content["learned"])


def bounded_tokenizer_from_json(text: str) -> Tokenizer:
    """Like `tokenizer_from_json`, for a text of unknown origin.

    Its pipeline may not make a caption grow: no padding, and no replacement but those of our own
    pipelines.

    Raises:
      TokenizerError: it has another pipeline than a tokenizer of this kind can have.
      Exception: it is no tokenizer; of any class.
    """
    content = json.loads(text)
    kind, pipeline = content["kind"], content["tokenizer"]
    ours = {"words": _word_backend, "listed_words": _fixed_vocab_backend}
    if kind in ours:
        backend = json.loads(ours[kind]({}).to_str())
        same = all(pipeline[part] == backend[part] for part in ("normalizer", "pre_tokenizer"))
        model = "WordLevel"
    else:
        same = not re.search(r'"(Replace|Prepend)"', json.dumps(pipeline["normalizer"]))
        model = "WordPiece"
    if not same or pipeline["model"]["type"] != model or pipeline.get("padding"):
        raise TokenizerError(f"the pipeline is not that of a {kind} tokenizer")
    return tokenizer_from_json(text)


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Reads a file of `Tokenizer.save`.

    Raises:
      TokenizerError: there is no such file, or it is not a tokenizer.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return tokenizer_from_json(file.read())
    except FileNotFoundError as error:
        raise TokenizerError(f"{path}: no tokenizer here; train a model first") from error
    except OSError:
        raise
    except Exception as error:  # The tokenizers library has no narrower class.
        raise TokenizerError(f"{path}: not a tokenizer file ({error})") from error


def learn_tokenizer(kind: str, captions: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns a vocabulary from the training captions.

    Args:
      kind: "words" (lower case, accents stripped, sequences of letters, numerals and underscores,
        as the reference's datasets.py) or "wordpiece" (BERT's own rules).
      captions: sentences.
      vocab_size: largest number of entries; the most frequent words are kept.
    """
    if kind == "wordpiece":
        return Tokenizer(kind, _learn_word_pieces(list(captions), vocab_size), learned=True)
    backend = _word_backend({})
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, special_tokens=[WORD_PAD, WORD_UNKNOWN], show_progress=False
    )
    backend.train_from_iterator(captions, trainer)
    return Tokenizer(kind, backend, learned=True)


def _learn_word_pieces(captions: Sequence[str], vocab_size: int) -> tokenizers.Tokenizer:
    """BERT's tokenizer with word pieces of these captions, the same ones in every process."""
    backend = _word_piece_backend({})
    letters = {
        letter
        for caption in captions
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(
            backend.normalizer.normalize_str(caption)
        )
        for letter in word[1:]
    }
    # The trainer numbers the letters inside of words in an order that differs between processes,
    # and breaks ties by these numbers; it keeps the order of special tokens.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*PIECE_SPECIALS, *(f"##{letter}" for letter in sorted(letters))],
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    learned = _word_piece_backend(backend.get_vocab())
    learned.add_special_tokens(list(PIECE_SPECIALS))
    return learned


def _word_piece_backend(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=PIECE_SPECIALS[1]))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def _word_backend(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=WORD_UNKNOWN))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFD(),
            # StripAccents would also remove the vowels of Hindi and the voicing of Japanese.
            normalizers.Replace(tokenizers.Regex(_ACCENTS), ""),
            normalizers.Lowercase(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(
        tokenizers.Regex(_WORD), behavior="removed", invert=True
    )
    return backend


def fixed_vocab_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer of a fixed list of words, which splits captions as the reference's datasets.py.

    Words are sequences of letters, digits and underscores in lower case, of which only the ASCII
    characters are kept ("café" is "caf"). Other words are dropped.

    Args:
      words: in the order of their ids; the first one, "<end>", is the padding.

    Raises:
      TokenizerError: "<end>" is not in the list.
    """
    vocabulary = {word: index for index, word in enumerate([*words, _DROPPED])}
    return Tokenizer("listed_words", _fixed_vocab_backend(vocabulary), learned=True)


def _fixed_vocab_backend(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=_DROPPED))
    # Words without any ASCII character are kept, so that they are reported as unknown.
    foreign = r"(?:(?![\x00-\x7f])[\p{L}\p{N}])+"
    within = tokenizers.Regex(rf"(?<=[a-z0-9_]){foreign}|{foreign}(?=[a-z0-9_])")
    backend.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(within, "")]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(
        tokenizers.Regex(r"[\p{L}\p{N}_]+"), behavior="removed", invert=True
    )
    return backend


def pretrained_tokenizer(name: str) -> Tokenizer:
    """The WordPiece tokenizer of a Hugging Face name or folder.

    Raises:
      TokenizerError: it cannot be found, or is not WordPiece.
    """
    from transformers import AutoTokenizer

    try:
        backend = AutoTokenizer.from_pretrained(name).backend_tokenizer
    except Exception as error:
        raise TokenizerError(
            f"config.tokenizer.pretrained={name!r}: no tokenizer could be loaded ({error}); give "
            "the name of a model on the Hugging Face hub or a folder with its tokenizer.json"
        ) from error
    if json.loads(backend.to_str())["model"]["type"] != "WordPiece":
        raise TokenizerError(
            f"config.tokenizer.pretrained={name!r}: not WordPiece; choose a BERT model"
        )
    backend.no_padding()
    backend.no_truncation()
    return Tokenizer("wordpiece", backend, learned=False)
