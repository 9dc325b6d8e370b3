"""BERT against stored outputs of PyTorch's BertModel, and loading of checkpoints."""

import json
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ssagan_jax.models.bert import Bert, BertConfig, BertTextEncoder
from ssagan_jax.pytorch.huggingface_bert import load_hf_bert

HF_CONFIG = {
    "model_type": "bert",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "hidden_act": "gelu",
}
CLS, SEP, PAD = 2, 3, 0
TOKENS = jnp.array([[5, 6, 7], [9, 0, 0]])
MASK = jnp.array([[True, True, True], [True, False, False]])
# transformers.BertModel on [CLS] 5 6 7 [SEP] and [CLS] 9 [SEP], with the weights of `checkpoint`:
# the first channels of tokens 7 and 9, of the pooler, and of the mean over the positions of a row.
TOKEN_7 = [1.3134801, 0.17958896, -1.6453037, 0.18674901]
TOKEN_9 = [1.5400006, 0.1256008, -1.5579637, 0.44072953]
POOLED = [[0.07333531, 0.825864, 0.9756828], [0.00636814, 0.8582256, 0.9576137]]
MEAN = [[0.9145681, 0.2874529, -1.8491957], [1.0363239, 0.19616775, -1.8868898]]


def by_name(name, shape):
    values = np.random.default_rng(zlib.crc32(name.encode())).uniform(-0.6, 0.6, shape)
    return values.astype(np.float32) + np.float32(name.endswith("LayerNorm.weight"))


def checkpoint():
    shapes = {
        "embeddings.word_embeddings.weight": (11, 8),
        "embeddings.position_embeddings.weight": (10, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
        "pooler.dense.weight": (8, 8),
        "pooler.dense.bias": (8,),
    }
    for layer in range(2):
        start = f"encoder.layer.{layer}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{start}attention.{name}.weight"] = (8, 8)
            shapes[f"{start}attention.{name}.bias"] = (8,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{start}{name}.weight": (8,), f"{start}{name}.bias": (8,)}
        shapes |= {f"{start}intermediate.dense.weight": (12, 8)}
        shapes |= {f"{start}intermediate.dense.bias": (12,)}
        shapes |= {f"{start}output.dense.weight": (8, 12), f"{start}output.dense.bias": (8,)}
    return {name: by_name(name, shape) for name, shape in shapes.items()}


def write(folder, tensors, config=HF_CONFIG):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_hf_bert(write(tmp_path_factory.mktemp("bert"), checkpoint()))


def encode(loaded, tokens, mask, pooling="cls"):
    config, params = loaded
    if pooling == "mean":
        params = {name: value for name, value in params.items() if name != "pooler"}
    encoder = BertTextEncoder(config, CLS, SEP, PAD, embedding_dim=8, pooling=pooling)
    return jax.jit(encoder.apply)({"params": {"bert": params}}, tokens, mask)


def test_outputs_are_those_of_pytorch(loaded):
    words, sentence = encode(loaded, TOKENS, MASK)
    np.testing.assert_allclose(words[0, 2, :4], TOKEN_7, atol=1e-5)
    np.testing.assert_allclose(words[1, 0, :4], TOKEN_9, atol=1e-5)
    np.testing.assert_allclose(sentence[:, :3], POOLED, atol=1e-5)
    _, sentence = encode(loaded, TOKENS, MASK, "mean")
    np.testing.assert_allclose(sentence[:, :3], MEAN, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(loaded, pooling):
    words, sentence = encode(loaded, TOKENS, MASK, pooling)
    padded = jnp.concatenate([jnp.where(MASK, TOKENS, 4), jnp.full((2, 3), 8)], axis=1)
    padded_mask = jnp.pad(MASK, ((0, 0), (0, 3)))
    padded_words, padded_sentence = encode(loaded, padded, padded_mask, pooling)
    np.testing.assert_allclose(padded_words[:, :3], words, atol=1e-6)
    np.testing.assert_allclose(padded_sentence, sentence, atol=1e-6)
    assert not np.any(np.asarray(padded_words)[~np.asarray(padded_mask)])


def test_empty_caption_is_finite(loaded):
    for pooling in ("cls", "mean"):
        words, sentence = encode(loaded, TOKENS, jnp.zeros_like(MASK), pooling)
        assert np.all(np.isfinite(sentence)) and not np.any(words)


def test_dropout_and_projections(loaded):
    encoder = BertTextEncoder(loaded[0], CLS, SEP, PAD, embedding_dim=6)
    variables = jax.jit(encoder.init)(jax.random.key(0), TOKENS, MASK)
    assert variables["params"]["word_projection"]["kernel"].shape == (8, 6)
    words, sentence = jax.jit(encoder.apply)(variables, TOKENS, MASK)
    assert words.shape == (2, 3, 6) and sentence.shape == (2, 6)
    assert not np.any(np.asarray(words)[~np.asarray(MASK)])
    train = jax.jit(
        lambda seed: encoder.apply(
            variables, TOKENS, MASK, True, rngs={"dropout": jax.random.key(seed)}
        )
    )
    draws = [train(seed)[1] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2]) and not np.allclose(draws[0], sentence)


def test_loaded_parameters_are_the_written_ones(loaded):
    config, params = loaded
    tensors = checkpoint()
    assert config == BertConfig(11, 8, 2, 2, 12, 10, 2, 0.1)
    wanted = jax.eval_shape(Bert(config).init, jax.random.key(0), TOKENS, MASK)["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, wanted)
    np.testing.assert_array_equal(
        params["layer_1"]["intermediate"]["kernel"],
        tensors["encoder.layer.1.intermediate.dense.weight"].T,
    )
    np.testing.assert_array_equal(
        params["word_embeddings"], tensors["embeddings.word_embeddings.weight"]
    )


def test_published_spellings_load_alike(loaded, tmp_path):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {"cls.predictions.bias": np.zeros(11), "bert.embeddings.position_ids": np.arange(10)}
    for name, tensor in checkpoint().items():
        for new, before in old.items():
            name = name.replace(new, before)
        tensors[f"bert.{name}"] = tensor
    _, params = load_hf_bert(write(tmp_path / "old", tensors))
    jax.tree.map(np.testing.assert_array_equal, params, loaded[1])

    names = sorted(tensors)
    folder = tmp_path / "shards"
    write(folder, {name: tensors[name] for name in names[:9]})
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({name: tensors[name] for name in names[9:]}, folder / "b.safetensors")
    files = {name: "a.safetensors" if name in names[:9] else "b.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    _, params = load_hf_bert(str(folder))
    jax.tree.map(np.testing.assert_array_equal, params, loaded[1])


def test_every_bad_tensor_is_named(tmp_path):
    tensors = checkpoint()
    del tensors["encoder.layer.0.output.dense.bias"]
    tensors["encoder.layer.1.intermediate.dense.weight"] = np.zeros((8, 12), np.float32)
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(8, np.float32)
    with pytest.raises(ValueError) as error:
        load_hf_bert(write(tmp_path / "bad", tensors))
    assert "encoder.layer.0.output.dense.bias is missing" in str(error.value)
    shapes = "intermediate.dense.weight has shape (8, 12) instead of (12, 8)"
    assert shapes in str(error.value)
    assert "encoder.layer.2.output.dense.bias is unknown" in str(error.value)


def test_pooler_is_required_only_where_asked_for(loaded, tmp_path):
    tensors = {n: t for n, t in checkpoint().items() if not n.startswith("pooler")}
    folder = write(tmp_path / "bare", tensors)
    with pytest.raises(ValueError, match=r"pooler=True.*pooler.dense.bias is missing"):
        load_hf_bert(folder)
    _, params = load_hf_bert(folder, pooler=False)
    assert params.keys() == loaded[1].keys() - {"pooler"}
    _, params = load_hf_bert(write(tmp_path / "whole", checkpoint()), pooler=False)
    assert "pooler" not in params


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("position_embedding_type", "relative_key"),
        ("hidden_act", "swish"),
        ("num_attention_heads", 3),
    ],
)
def test_other_networks_are_refused(tmp_path, key, value):
    folder = write(tmp_path / "other", checkpoint(), HF_CONFIG | {key: value})
    with pytest.raises(ValueError, match=re.escape(str(value))):
        load_hf_bert(folder)


def test_config_without_a_size_is_refused(tmp_path):
    config = {key: value for key, value in HF_CONFIG.items() if key != "hidden_size"}
    with pytest.raises(ValueError, match="lacks hidden_size"):
        load_hf_bert(write(tmp_path / "short", checkpoint(), config))


def test_hub_names(loaded, tmp_path, monkeypatch):
    folder = write(tmp_path / "cache", checkpoint())

    def cached(name, file):
        if name == "lab/bird-bert" and file in ("config.json", "model.safetensors"):
            return f"{folder}/{file}"
        raise OSError("no network")

    monkeypatch.setattr("transformers.utils.cached_file", cached)
    _, params = load_hf_bert("lab/bird-bert")
    jax.tree.map(np.testing.assert_array_equal, params, loaded[1])
    with pytest.raises(FileNotFoundError, match="hf download lab/no-bert.*no network"):
        load_hf_bert("lab/no-bert")


def test_wrong_use_is_named(loaded):
    with pytest.raises(ValueError, match="12 tokens.*max_positions=10"):
        encode(loaded, jnp.ones((1, 10), int), jnp.ones((1, 10), bool))
    with pytest.raises(ValueError, match="pooling='max'.*'cls', 'mean'"):
        encode(loaded, TOKENS, MASK, "max")
