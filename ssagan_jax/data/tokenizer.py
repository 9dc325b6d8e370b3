"""Captions to token ids: words of the training captions or of a list, or WordPiece for BERT.

All are pipelines of the `tokenizers` library, so that one file in the work folder holds any.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from ssagan_jax.errors import InputError
from ssagan_jax.models.vocabulary import Vocabulary

WORD_PAD, WORD_UNKNOWN = "<pad>", "<unk>"
# Accents of letters, and what makes an emoji of a sign.
_ACCENTS = r"[\u0300-\u036f\u20d0-\u20ff\ufe00-\ufe0f]"
_WORD = r"[\p{L}\p{N}_][\w\p{N}]*"
PIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FIXED_VOCAB_PAD, _LEFT_OUT = "<end>", "<left out>"
# By kind: what stands for padding, for unknown words, and for BERT's first and last token.
_SPECIALS = {
    "words": (WORD_PAD, WORD_UNKNOWN, WORD_PAD, WORD_PAD),
    "listed_words": (FIXED_VOCAB_PAD, _LEFT_OUT, FIXED_VOCAB_PAD, FIXED_VOCAB_PAD),
    "wordpiece": PIECE_SPECIALS[:4],
}


class TokenizerError(InputError):
    """A tokenizer that cannot be made or read, or a caption without any word."""


class Tokenizer:
    """Ids of a caption's words or word pieces, without [CLS] and [SEP].

    Attributes:
      kind: "words", "wordpiece", or "listed_words", which leaves unknown words out.
      learned: whether the vocabulary holds every word of the captions it was learned from; then a
        word in several pieces is one that training never showed.
    """

    def __init__(self, kind: str, backend: tokenizers.Tokenizer, learned: bool) -> None:
        if kind == "words":
            # Whoever writes "<pad>" in a caption means the word, not the padding.
            backend.encode_special_tokens = True
        self.kind = kind
        self.learned = learned
        self._backend = backend
        names = _SPECIALS[kind]
        ids = [backend.token_to_id(name) for name in names]
        if None in ids:
            raise TokenizerError(
                f"the {kind} vocabulary lacks {names[ids.index(None)]!r}: choose one that has "
                f"{', '.join(dict.fromkeys(names))}"
            )
        self.pad_id, self.unknown_id, cls_id, sep_id = ids
        # What is left out has an id, the last one, but no row in an embedding table.
        size = backend.get_vocab_size() - (kind == "listed_words")
        self.vocabulary = Vocabulary(size, self.pad_id, cls_id, sep_id)

    def ids(self, caption: str) -> list[int]:
        """Ids of all words or word pieces of a caption, however long."""
        ids = self._backend.encode(caption, add_special_tokens=False).ids
        return [token for token in ids if token < self.vocabulary.size]

    def entries(self) -> list[str]:
        """The vocabulary in the order of the ids."""
        return [self._backend.id_to_token(token) for token in range(self.vocabulary.size)]

    def encode(
        self, caption: str, length: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids i32[length] and mask bool[length] of a caption.

        Args:
          caption: a sentence.
          length: how many tokens are kept.
          rng: in training, chooses which tokens of an overlong caption are kept, in their order
            (the reference's datasets.py); without it the first ones are.

        Raises:
          TokenizerError: the caption has no word, or none that is in the vocabulary.
        """
        ids = np.asarray(self.ids(caption), np.int32)
        if not len(ids):
            fault = "has no word: give a sentence with letters"
            if unknown := self.unknown_words(caption):
                fault = f"has no word that the vocabulary knows, only {', '.join(unknown)}"
            raise TokenizerError(f"caption {caption!r} {fault}")
        if len(ids) > length and rng is not None:
            ids = ids[np.sort(rng.permutation(len(ids))[:length])]
        ids = ids[:length]
        tokens = np.full(length, self.pad_id, np.int32)
        tokens[: len(ids)] = ids
        return tokens, np.arange(length) < len(ids)

    def unknown_words(self, caption: str) -> list[str]:
        """Words of a caption that training never showed, in their order, each once."""
        encoding = self._backend.encode(caption, add_special_tokens=False)
        pieces: dict[int, list[tuple[int, tuple[int, int]]]] = {}
        for token, word, span in zip(
            encoding.ids, encoding.word_ids, encoding.offsets, strict=True
        ):
            pieces.setdefault(word, []).append((token, span))
        unknown = []
        for parts in pieces.values():
            if any(token == self.unknown_id for token, _ in parts) or (
                self.learned and len(parts) > 1
            ):
                unknown.append(caption[parts[0][1][0] : parts[-1][1][1]])
        # WordPiece takes every mark for a word.
        return [word for word in dict.fromkeys(unknown) if any(map(str.isalnum, word))]

    @property
    def digest(self) -> str:
        """SHA-256 of the tokenizer's file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the tokenizer to a JSON file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.to_json())

    def to_json(self) -> str:
        """The tokenizer's file."""
        backend = json.loads(self._backend.to_str())
        content = {"kind": self.kind, "learned": self.learned, "tokenizer": backend}
        return json.dumps(content, ensure_ascii=False, sort_keys=True)


def tokenizer_from_json(text: str) -> Tokenizer:
    """The tokenizer whose file `Tokenizer.text` gave; any exception where it did not."""
    content = json.loads(text)
    backend = tokenizers.Tokenizer.from_str(json.dumps(content["tokenizer"]))
    return Tokenizer(content["kind"], backend, content["learned"])


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Reads what `Tokenizer.save` wrote.

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
      vocab_size: at most so many entries; the most frequent are kept.
    """
    if kind == "words":
        backend = tokenizers.Tokenizer(models.WordLevel(unk_token=WORD_UNKNOWN))
        backend.normalizer = normalizers.Sequence(
            [
                normalizers.NFD(),
                # StripAccents would also take the vowels of Hindi and the voicing of Japanese.
                normalizers.Replace(tokenizers.Regex(_ACCENTS), ""),
                normalizers.Lowercase(),
            ]
        )
        backend.pre_tokenizer = pre_tokenizers.Split(
            tokenizers.Regex(_WORD), behavior="removed", invert=True
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size,
            special_tokens=[WORD_PAD, WORD_UNKNOWN],
            show_progress=False,
        )
    else:
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token=PIECE_SPECIALS[1]))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size, special_tokens=list(PIECE_SPECIALS), show_progress=False
        )
    backend.train_from_iterator(captions, trainer)
    return Tokenizer(kind, backend, learned=True)


def fixed_vocab_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer of listed words, which reads captions as the reference's datasets.py does.

    Words are sequences of letters, digits and underscores in lower case, of which only the ASCII
    characters are kept ("café" is "caf"). Words that are not listed are left out.

    Args:
      words: by id; the first one, "<end>", is the padding.

    Raises:
      TokenizerError: the first word is another one.
    """
    vocabulary = {word: index for index, word in enumerate([*words, _LEFT_OUT])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=_LEFT_OUT))
    # Words without any ASCII character stay whole, so that they are told as unknown.
    foreign = r"(?:(?![\x00-\x7f])[\p{L}\p{N}])+"
    within = tokenizers.Regex(rf"(?<=[a-z0-9_]){foreign}|{foreign}(?=[a-z0-9_])")
    backend.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(within, "")]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(
        tokenizers.Regex(r"[\p{L}\p{N}_]+"), behavior="removed", invert=True
    )
    return Tokenizer("listed_words", backend, learned=True)


def pretrained_tokenizer(name: str) -> Tokenizer:
    """The WordPiece tokenizer of a Hugging Face name or folder, with its own rules.

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
