"""Loads Hugging Face BERT checkpoints."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.models.bert import Bert, BertConfig
from ssagan_jax.pytorch.tensors_to_flax import match_tensors
from ssagan_jax.pytorch.weight_files import find_weight_file, read_tensors
from ssagan_jax.untrusted.files import read_json
from ssagan_jax.untrusted.published_files import find_published_file

# From a part of a parameter's path to its part of the name in a Hugging Face checkpoint.
_HF_NAMES = {
    "word_embeddings": "embeddings.word_embeddings.weight",
    "position_embeddings": "embeddings.position_embeddings.weight",
    "token_type_embeddings": "embeddings.token_type_embeddings.weight",
    "embedding_norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
    "pooler": "pooler.dense",
    "kernel": "weight",
    "scale": "weight",
}
_MAX_LAYERS = 256
# Of sizes, and of shares.
_ALLOWED = (
    lambda value: type(value) is int and 1 <= value <= 10**6,
    lambda value: type(value) in (int, float) and 0 <= value < 1,
)
# Task heads and index buffers in published checkpoints beside the encoder.
_IGNORED = r"(cls|classifier|qa_outputs)\.|embeddings\.(position|token_type)_ids$"


def load_hf_bert(folder_or_name: str, pooler: bool = True) -> tuple[BertConfig, dict[str, Any]]:
    """Reads a Hugging Face BERT checkpoint: config.json and model.safetensors or pytorch_model.bin.

    Accepts shards with an index file, names with and without the prefix "bert.", and layer norms
    called gamma and beta. Task heads and stored position ids are ignored.

    Args:
      folder_or_name: a folder, or a name on the Hugging Face hub (its local cache is used).
      pooler: whether to load the pooler (pooling "cls").

    Returns:
      The sizes (dropout from hidden_dropout_prob) and the float32 parameters of
      `Bert(config, pooler=pooler)`.

    Raises:
      FileNotFoundError: config or weights are not in the folder, the cache or the hub.
      ValueError: the checkpoint is not a plain BERT, or tensors are missing, misshapen or unknown.
    """
    path = find_published_file(folder_or_name, "config.json")
    config = _to_config(read_json(path), path)
    path = find_weight_file(folder_or_name)
    return config, _to_params(config, read_tensors(path), pooler, path)


def _to_config(values: dict[str, Any], path: str) -> BertConfig:
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings of a BERT")
    plain = {"model_type": "bert", "position_embedding_type": "absolute", "is_decoder": False}
    for key, allowed in plain.items():
        if values.get(key, allowed) != allowed:
            raise ValueError(
                f"{path} has {key}={values[key]!r:.80}; only {allowed!r} can be loaded"
            )
    renamed = {
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "max_positions": "max_position_embeddings",
        "dropout": "hidden_dropout_prob",
    }
    keys = {f.name: renamed.get(f.name, f.name) for f in dataclasses.fields(BertConfig)}
    # Some published files leave the layer norm's epsilon to the default.
    if missing := keys.values() - values.keys() - {"layer_norm_eps"}:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    for key in (keys.values() & values.keys()) - {"hidden_act"}:  # Which BertConfig checks.
        if not _ALLOWED[key in ("hidden_dropout_prob", "layer_norm_eps")](values[key]):
            raise ValueError(f"{path} has {key}={values[key]!r:.80}, which no BERT has")
    if values["num_hidden_layers"] > _MAX_LAYERS:
        raise ValueError(f"{path} has more than {_MAX_LAYERS} layers")
    return BertConfig(**{own: values[key] for own, key in keys.items() if key in values})


def _to_params(
    config: BertConfig, tensors: dict[str, np.ndarray], pooler: bool, path: str
) -> dict[str, Any]:
    renamed = {
        re.sub("gamma$", "weight", re.sub("beta$", "bias", name.removeprefix("bert."))): tensor
        for name, tensor in tensors.items()
    }
    init = functools.partial(Bert(config, pooler).init, jax.random.key(0))
    wanted = jax.eval_shape(init, jnp.zeros((1, 1), int), jnp.ones((1, 1), bool))["params"]
    ignored = _IGNORED if pooler else rf"{_IGNORED}|pooler\."
    source = f"{path} (read with pooler={pooler})"
    return match_tensors(renamed, wanted, _hf_name, ignored=ignored, source=source)


def _hf_name(path: tuple[str, ...]) -> str:
    return ".".join(_HF_NAMES.get(p, p.replace("layer_", "encoder.layer.")) for p in path)
