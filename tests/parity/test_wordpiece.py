"""WordPiece ids against transformers' tokenizers, with and without [CLS] and [SEP]."""

import numpy as np
import pytest
from transformers import BertTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.models.bert import BertConfig, BertTextEncoder


# The legacy one is written in Python and shares no code with ours.
@pytest.mark.parametrize("theirs", [BertTokenizer, BertTokenizerLegacy])
def test_ids(minilm, captions, measured, theirs):
    name, sentences = captions
    ours, theirs = pretrained_tokenizer(minilm), theirs.from_pretrained(minilm)
    wanted = theirs(sentences, add_special_tokens=False)["input_ids"]
    different = sum(ours.ids(s) != ids for s, ids in zip(sentences, wanted, strict=True))
    part = f"WordPiece, {name}: captions with other ids, of {len(sentences)}"
    measured(part, f"transformers' {type(theirs).__name__}", different, 0)


def test_ids_with_specials(minilm, captions, measured):
    name, sentences = captions
    ours, theirs = pretrained_tokenizer(minilm), BertTokenizer.from_pretrained(minilm)
    sentences = [sentence for sentence in sentences if ours.ids(sentence)]
    rows = [ours.encode(sentence, 18) for sentence in sentences]
    tokens, mask = (np.stack(column) for column in zip(*rows, strict=True))
    words = ours.vocabulary
    encoder = BertTextEncoder(BertConfig(words.size), words.cls_id, words.sep_id, words.pad_id)
    ids, attended = encoder.apply({}, tokens, mask, method="_with_specials")
    wanted = theirs(sentences, truncation=True, padding="max_length", max_length=20)
    found = np.stack([ids, attended])
    different = (found != np.array([wanted["input_ids"], wanted["attention_mask"]])).any((0, 2))
    part = f"[CLS] and [SEP], {name}: captions with other ids, of {len(sentences)}"
    measured(part, f"transformers' {type(theirs).__name__}", different.sum(), 0)
