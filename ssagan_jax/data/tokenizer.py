"""Captions to token ids: words of the training captions or of a fixed list, or WordPiece for BERT.

All are pipelines of the `tokenizers` library, so one file format in the work folder suffices.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tokenizers import models, trainers

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.data.captions import is_too_long
from ssagan_jax.errors import DamagedFileError, InputError
from ssagan_jax.models.vocabulary import Vocabulary
from ssagan_jax.untrusted.files import parse_json, read_text
from ssagan_jax.untrusted.limits import CAPTION_BYTES, TOKENIZER_BYTES
from ssagan_jax.untrusted.tokenizer_files import (
    BERT_PARTS,
    WORD_PARTS,
    build_tokenizer,
    make_pipeline,
    untrained,
    word_piece_model,
)

WORD_PAD, WORD_UNKNOWN = "<pad>", "<unk>"
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


def check_caption(caption: str) -> None:
    """Raises TokenizerError for a caption that is too long (`CAPTION_BYTES`) or not Unicode."""
    if is_too_long(caption):
        raise TokenizerError(
            f"caption {caption[:40]!r}... has {len(caption.encode('utf-8', 'replace')):,} bytes in "
            f"UTF-8; at most {CAPTION_BYTES:,} are allowed: shorten it"
        )
    try:
        caption.encode()
    except UnicodeEncodeError:  # From bytes on the command line that are not UTF-8.
        raise TokenizerError(f"caption {caption!r}: not Unicode text; write it in UTF-8") from None


def _checked(caption: str) -> str:
    check_caption(caption)
    return caption


class Tokenizer:
    """Ids of a caption's words or word pieces, without [CLS] and [SEP].

    Attributes:
      kind: "words", "wordpiece", or "listed_words", which drops unknown words.
      learned: whether the vocabulary was learned from captions; then a word in several pieces did
        not occur in training.
    """

    def __init__(self, kind: str, pipeline: Any, learned: bool) -> None:
        """Builds it of a JSON object in the layout of the tokenizers library's files.

        Its pipeline may be one of this project or of a published BERT model only, which cannot make
        a caption grow.

        Raises:
          TokenizerError: it is not.
        """
        try:
            backend = build_tokenizer(pipeline, WORD_PARTS.get(kind))
        except Exception as error:  # The library has no narrower class.
            raise TokenizerError(
                f"the pipeline is not that of a {kind} tokenizer: {error!s:.300}"
            ) from None
        if kind == "words":
            # "<pad>" in a caption is a word, not the padding.
            backend.encode_special_tokens = True
        self.kind = kind
        self.learned = learned
        self._pipeline = pipeline
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
        """Ids of all words or word pieces of a caption; raises TokenizerError as `encode` does."""
        check_caption(caption)
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
          TokenizerError: the caption is too long (`CAPTION_BYTES`), or has no word, or none that
            is in the vocabulary.
        """
        ids = np.asarray(self.ids(caption), np.int32)
        if not len(ids):
            problem = "has no word: give a sentence with letters"
            if unknown := self.unknown_words(caption):
                problem = f"has no word of the vocabulary, only {', '.join(unknown):.300}"
            raise TokenizerError(f"caption {caption!r:.300} {problem}")
        if len(ids) > length and rng is not None:
            ids = ids[np.sort(rng.permutation(len(ids))[:length])]
        ids = ids[:length]
        tokens = np.full(length, self.pad_id, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(length) < len(ids)

    def unknown_words(self, caption: str) -> list[str]:
        """Words of a caption that did not occur in training, in order, each once."""
        check_caption(caption)
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
        content = {"kind": self.kind, "learned": self.learned, "tokenizer": self._pipeline}
        return json.dumps(content, ensure_ascii=False, sort_keys=True)


def tokenizer_from_json(text: str) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_json` wrote.

    Raises:
      TokenizerError: it is of no such tokenizer.
      ValueError, TypeError, LookupError: it is no JSON object of a tokenizer.
    """
    content = parse_json(text)
    kind, learned = content["kind"], content["learned"]
    if kind not in _SPECIALS or not isinstance(learned, bool):
        raise TokenizerError(f"a tokenizer of the kind {kind!r:.80}; use the version that wrote it")
    return Tokenizer(kind, content["tokenizer"], learned)


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Reads a file of `Tokenizer.save`.

    Raises:
      TokenizerError: there is no such file, or it is not a tokenizer.
    """
    try:
        return tokenizer_from_json(read_text(path, TOKENIZER_BYTES))
    except FileNotFoundError as error:
        raise TokenizerError(f"{path}: no tokenizer here; train a model first") from error
    except DamagedFileError as error:
        raise TokenizerError(f"{error}; not a tokenizer file") from None
    except (ValueError, TypeError, LookupError) as error:
        raise TokenizerError(f"{path}: not a tokenizer file ({error})") from None


def learn_tokenizer(kind: str, captions: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns a vocabulary from the training captions.

    Args:
      kind: "words" (lower case, accents stripped, sequences of letters, numerals and underscores,
        as the reference's datasets.py) or "wordpiece" (BERT's own rules).
      captions: sentences.
      vocab_size: largest number of entries; the most frequent words are kept.

    Raises:
      TokenizerError: a sentence is too long (`CAPTION_BYTES`).
    """
    captions = map(_checked, captions)
    if kind == "wordpiece":
        return _learn_word_pieces(list(captions), vocab_size)
    backend = untrained(models.WordLevel({}, unk_token=WORD_UNKNOWN), WORD_PARTS[kind])
    specials = [WORD_PAD, WORD_UNKNOWN]
    backend.train_from_iterator(
        captions,
        trainers.WordLevelTrainer(
            vocab_size=vocab_size, special_tokens=specials, show_progress=False
        ),
    )
    model = {"type": "WordLevel", "vocab": backend.get_vocab(), "unk_token": WORD_UNKNOWN}
    return Tokenizer(kind, make_pipeline(model, WORD_PARTS[kind], specials), learned=True)


def _learn_word_pieces(captions: Sequence[str], vocab_size: int) -> Tokenizer:
    """BERT's tokenizer with word pieces of these captions, the same ones in every process."""
    backend = untrained(models.WordPiece({}, unk_token=PIECE_SPECIALS[1]), BERT_PARTS)
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
    model = word_piece_model(backend.get_vocab(), PIECE_SPECIALS[1])
    return Tokenizer("wordpiece", make_pipeline(model, BERT_PARTS, PIECE_SPECIALS), learned=True)


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
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": _DROPPED}
    pipeline = make_pipeline(model, WORD_PARTS["listed_words"], [])
    return Tokenizer("listed_words", pipeline, learned=True)
