"""The text encoders against PyTorch's, with the weights carried over."""

import jax
import numpy as np
import pytest
import transformers
from test_lstm import params_from_torch

from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.models.bert import Bert, BertTextEncoder
from ssagan_jax.models.lstm import LstmTextEncoder
from ssagan_jax.pytorch.huggingface_bert import load_hf_bert

torch = pytest.importorskip("torch", reason="bash launch/test.sh --parity installs PyTorch")

WORDS = 18  # the longest caption of the reference
# Channels, blocks, heads, channels of the feed-forward part, activation.
SIZES = [
    (32, 1, 2, 48, "relu"),
    (128, 2, 2, 512, "gelu_new"),
    (256, 12, 8, 1024, "gelu"),
    (768, 4, 12, 3072, "gelu"),
]


def largest_difference(ours, theirs):
    return float(np.abs(np.asarray(ours) - theirs.numpy()).max())


@torch.no_grad()
def random_bert(size):
    """A BertModel of which no bias is zero and no layer norm's scale one."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    torch.manual_seed(0)
    sizes = dict(zip((*names, "hidden_act"), size, strict=True))
    model = transformers.BertModel(transformers.BertConfig(vocab_size=99, **sizes)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_bert_with_random_weights(tmp_path, measured, size):
    model = random_bert(size)
    model.save_pretrained(tmp_path)
    config, params = load_hf_bert(str(tmp_path))
    rng = np.random.default_rng(0)
    mask = np.arange(WORDS + 2) < np.arange(3, WORDS + 3)[:, None]
    ids = rng.integers(0, 99, mask.shape)
    hidden, pooled = jax.jit(Bert(config).apply)({"params": params}, ids, mask)
    with torch.no_grad():
        wanted = model(torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int)))
    figures = (
        largest_difference(hidden[mask], wanted.last_hidden_state[torch.tensor(mask)]),
        largest_difference(pooled, wanted.pooler_output),
    )
    part = f"BERT, random, {size[0]} channels, {size[1]} blocks, {size[-1]}"
    measured(part, "transformers' BertModel", max(figures), 1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_published_bert(minilm, captions, measured, pooling):
    name, sentences = captions
    tokenizer = pretrained_tokenizer(minilm)
    sentences = [sentence for sentence in sentences if tokenizer.ids(sentence)]
    sentences = sentences[:: len(sentences) // 64 + 1]
    rows = [tokenizer.encode(sentence, WORDS) for sentence in sentences]
    tokens, mask = (np.stack(column) for column in zip(*rows, strict=True))
    config, params = load_hf_bert(minilm, pooler=pooling == "cls")
    special = [getattr(tokenizer.vocabulary, f"{kind}_id") for kind in ("cls", "sep", "pad")]
    encoder = BertTextEncoder(config, *special, config.hidden_size, pooling)
    words, sentence = jax.jit(encoder.apply)({"params": {"bert": params}}, tokens, mask)

    wanted_hidden, wanted = published_bert(minilm, sentences, pooling)
    figures = (
        largest_difference(words[mask], wanted_hidden[:, 1:-1][torch.tensor(mask)]),
        largest_difference(sentence, wanted),
    )
    part = f"BERT, all-MiniLM-L6-v2, {name}"
    measured(part, "transformers' BertModel", max(figures), 1e-4)
    cosines = torch.cosine_similarity(torch.tensor(np.asarray(sentence, float)), wanted.double())
    measured(f"{part}: 1 - cosine", "transformers' BertModel", 1 - cosines.min().item(), 1e-5)


@torch.no_grad()
def published_bert(minilm, sentences, pooling):
    """Hidden states [B, 20, 384] and the pooled ones [B, 384]."""
    tokenizer = transformers.BertTokenizer.from_pretrained(minilm)
    padded = {"truncation": True, "padding": "max_length", "max_length": WORDS + 2}
    batch = tokenizer(sentences, return_tensors="pt", **padded)
    outputs = transformers.BertModel.from_pretrained(minilm).eval()(**batch)
    if pooling == "cls":
        return outputs.last_hidden_state, outputs.pooler_output
    mask = batch["attention_mask"][..., None]
    return outputs.last_hidden_state, (outputs.last_hidden_state * mask).sum(1) / mask.sum(1)


def test_lstm(measured):
    torch.manual_seed(0)
    network = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(50, 300),
            "lstm": torch.nn.LSTM(300, 128, batch_first=True, bidirectional=True),
        }
    )
    lengths = torch.arange(1, WORDS + 1)
    tokens = torch.randint(50, (WORDS, WORDS))
    mask = np.arange(WORDS) < lengths.numpy()[:, None]
    with torch.no_grad():
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            network["embedding"](tokens), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, (states, _) = network["lstm"](packed)
        wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    params = params_from_torch({name: t.numpy() for name, t in network.state_dict().items()})
    encode = jax.jit(LstmTextEncoder(50).apply, static_argnums=3)
    words, sentences = encode({"params": params}, tokens.numpy(), mask, False)
    figures = (
        largest_difference(words, wanted),
        largest_difference(sentences, torch.cat([*states], -1)),
    )
    part = f"bi-LSTM, lengths 1 to {WORDS}"
    measured(part, "torch.nn.LSTM on packed sequences", max(figures), 1e-5)
