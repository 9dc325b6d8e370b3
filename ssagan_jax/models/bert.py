"""BERT as a text encoder.

The network of Devlin et al. 2018 (arXiv:1810.04805): post-layer-norm transformer blocks over word,
position and token-type embeddings, with a tanh pooler on [CLS].
"""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssagan_jax.models.layers import Dropout, unit_mean_square
from ssagan_jax.models.mixed_precision import to_float32

_ACTIVATIONS = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Hyperparameters of a BERT encoder.

    Raises:
      ValueError: `num_heads` does not divide `hidden_size`, or `hidden_act` is unknown.
    """

    vocab_size: int  # word pieces
    hidden_size: int = 256  # channels H of the hidden states
    num_layers: int = 12  # transformer blocks
    num_heads: int = 8  # attention heads per block
    intermediate_size: int = 1024  # hidden channels of the feed-forward layers
    max_positions: int = 512  # longest sequence, including [CLS] and [SEP]
    type_vocab_size: int = 2  # token types, of which only type 0 is used
    dropout: float = 0.1  # rate on embeddings, attention weights and outputs of sublayers
    layer_norm_eps: float = 1e-12  # added to the variance
    hidden_act: str = "gelu"  # "gelu" (exact), "gelu_new" (tanh form) or "relu"

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"BertConfig.hidden_size={self.hidden_size} must be a multiple of num_heads="
                f"{self.num_heads}"
            )
        if self.hidden_act not in _ACTIVATIONS:
            allowed = ", ".join(_ACTIVATIONS)
            raise ValueError(f"BertConfig.hidden_act={self.hidden_act!r}; allowed: {allowed}")


def _dense(features: int, name: str, dtype: DTypeLike | None) -> nn.Dense:
    init = nn.initializers.truncated_normal(0.02)
    return nn.Dense(features, kernel_init=init, dtype=dtype, name=name)


def _layer_norm(config: BertConfig, name: str) -> nn.LayerNorm:
    # The one-pass variance is less accurate than PyTorch's, which published weights come from.
    return nn.LayerNorm(epsilon=config.layer_norm_eps, use_fast_variance=False, name=name)


class _BertLayer(nn.Module):
    """One post-layer-norm block: self-attention, then feed-forward.

    `dtype` is that of matrix products; residual sums, norms and the softmax are float32 at least.
    """

    config: BertConfig
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, hidden: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        config, dense = self.config, functools.partial(_dense, dtype=self.dtype)
        attended = dense(config.hidden_size, "attention_output")(self._attend(hidden, mask, train))
        attended = Dropout(config.dropout, self.axis_name)(attended, deterministic=not train)
        hidden = _layer_norm(config, "attention_norm")(hidden + attended)
        inner = dense(config.intermediate_size, "intermediate")(hidden)
        inner = dense(config.hidden_size, "output")(_ACTIVATIONS[config.hidden_act](inner))
        inner = Dropout(config.dropout, self.axis_name)(inner, deterministic=not train)
        return _layer_norm(config, "output_norm")(hidden + inner)

    def _attend(self, hidden: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        config = self.config
        heads = (*hidden.shape[:2], config.num_heads, config.hidden_size // config.num_heads)
        query, key, value = (
            _dense(config.hidden_size, name, self.dtype)(hidden).reshape(heads)
            for name in ("query", "key", "value")
        )
        scores = to_float32(jnp.einsum("bqnd,bknd->bnqk", query, key)) / math.sqrt(heads[-1])
        scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores)
        weights = Dropout(config.dropout, self.axis_name)(weights, deterministic=not train)
        weights = weights.astype(value.dtype)
        return jnp.einsum("bnqk,bknd->bqnd", weights, value).reshape(hidden.shape)


class Bert(nn.Module):
    """The BERT encoder (Devlin et al. 2018).

    Called with ids i32[B, L] and attention_mask bool[B, L] (True on tokens to attend to, at least
    one per row), returns hidden f32[B, L, H] and pooled f32[B, H] in [-1, 1]: the tanh layer on the
    first token, or None with `pooler=False`. `train=True` needs an rng "dropout".

    Attributes:
      config: hyperparameters.
      pooler: whether to compute the pooled output.
      axis_name: mapped axis of the global batch, or None.
      dtype: of matrix products; None: promoted from inputs and parameters.

    Raises:
      ValueError: L exceeds `config.max_positions`.
    """

    config: BertConfig
    pooler: bool = True
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, ids: jax.Array, attention_mask: jax.Array, train: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """Encodes a batch of token ids; shapes in the class docstring."""
        config, width, length = self.config, self.config.hidden_size, ids.shape[1]
        if length > config.max_positions:
            raise ValueError(
                f"{length} tokens, including [CLS] and [SEP], exceed BERT's max_positions="
                f"{config.max_positions}; shorten the captions (config.data.max_words)"
            )
        normal = nn.initializers.truncated_normal(0.02)
        words = self.param("word_embeddings", normal, (config.vocab_size, width))
        positions = self.param("position_embeddings", normal, (config.max_positions, width))
        types = self.param("token_type_embeddings", normal, (config.type_vocab_size, width))
        hidden = words[ids] + positions[None, :length] + types[None, :1]
        hidden = _layer_norm(config, "embedding_norm")(hidden)
        hidden = Dropout(config.dropout, self.axis_name)(hidden, deterministic=not train)
        for i in range(config.num_layers):
            layer = _BertLayer(config, self.axis_name, self.dtype, name=f"layer_{i}")
            hidden = layer(hidden, attention_mask, train)
        if not self.pooler:
            return hidden, None
        return hidden, jnp.tanh(to_float32(_dense(width, "pooler", self.dtype)(hidden[:, 0])))


class BertTextEncoder(nn.Module):
    """A caption encoder with BERT: word pieces to word and sentence embeddings.

    Called with tokens i32[B, T] (word pieces without [CLS] and [SEP]), mask bool[B, T] (True on
    tokens, which are at the beginning of a row) and train, returns words f32[B, T, E], zero where
    the mask is False, and sentence f32[B, E]. [CLS] is inserted at the front and [SEP] after the
    last token, so BERT runs on T + 2 positions. `train=True` needs an rng "dropout". The parameters
    that `load_hf_bert` reads go into params["bert"].

    Attributes:
      config: hyperparameters of the BERT.
      cls_id, sep_id, pad_id: ids of [CLS], [SEP] and padding.
      embedding_dim: E. If `config.hidden_size` differs, words and sentence are linearly projected.
      pooling: "cls": the sentence is the pooler's output on [CLS]; "mean": the mean of the hidden
        states of [CLS], tokens and [SEP], without pooler (Sentence-BERT, arXiv:1908.10084).
      normalize: whether sentences are scaled to length sqrt(E).
      axis_name: mapped axis of the global batch, or None.
      dtype: of BERT's matrix products; None: promoted from inputs and parameters. Outputs are
        float32 at least.

    Raises:
      ValueError: `pooling` is unknown, or T + 2 exceeds `config.max_positions`.
    """

    config: BertConfig
    cls_id: int
    sep_id: int
    pad_id: int
    embedding_dim: int = 256
    pooling: str = "cls"
    normalize: bool = False
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, tokens: jax.Array, mask: jax.Array, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes a batch of captions; shapes in the class docstring."""
        if self.pooling not in ("cls", "mean"):
            raise ValueError(f"pooling={self.pooling!r} is unknown; allowed: 'cls', 'mean'")
        ids, attention_mask = self._with_specials(tokens, mask)
        pooler = self.pooling == "cls"
        bert = Bert(self.config, pooler, self.axis_name, self.dtype, name="bert")
        hidden, sentence = bert(ids, attention_mask, train)
        if self.pooling == "mean":
            attended = attention_mask[..., None]
            # Not jnp.mean's `where`, which cannot be exported to ONNX.
            sentence = jnp.where(attended, hidden, 0).sum(1) / attended.sum(1)
        words = hidden[:, 1:-1]
        if self.config.hidden_size != self.embedding_dim:
            words = nn.Dense(self.embedding_dim, name="word_projection")(words)
            sentence = nn.Dense(self.embedding_dim, name="sentence_projection")(sentence)
        if self.normalize:
            sentence = unit_mean_square(sentence)
        return jnp.where(mask[..., None], words, 0.0), sentence

    def _with_specials(self, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Adds [CLS] and [SEP]: ids i32[B, T + 2] and attention mask bool[B, T + 2]."""
        positions = jnp.arange(tokens.shape[1] + 2)[None]
        ends = jnp.max(jnp.where(mask, positions[:, 1:-1], 0), axis=1, keepdims=True)
        is_sep = positions == ends + 1
        attended = jnp.pad(mask, ((0, 0), (1, 1))) | is_sep | (positions == 0)
        ids = jnp.where(attended, jnp.pad(tokens, ((0, 0), (1, 1))), self.pad_id)
        ids = jnp.where(positions == 0, self.cls_id, jnp.where(is_sep, self.sep_id, ids))
        return ids, attended
