"""The bi-LSTM text encoder (paper, section III-A; AttnGAN's RNN_ENCODER)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssagan_jax.models import layers
from ssagan_jax.models.mixed_precision import to_compute_dtype, to_float32


class LstmTextEncoder(nn.Module):
    """Captions to word and sentence embeddings by one bidirectional LSTM layer.

    Weights have PyTorch's layout (gates i, f, g, o; two biases), transposed.

    Attributes:
      vocab_size: number of tokens.
      embedding_dim: size E of word and sentence embeddings, half of it from each direction.
      word_dim: size of the input word vectors.
      dropout: rate on the input word vectors in training.
      normalize: whether sentences are scaled to length sqrt(E).
      axis_name: mapped axis of the global batch, or None.
      dtype: of the inputs of matrix products; None: not cast. States and gates are float32.
    """

    vocab_size: int
    embedding_dim: int = 256
    word_dim: int = 300
    dropout: float = 0.5
    normalize: bool = False
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, tokens: jax.Array, mask: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes captions.

        Args:
          tokens: i32[B, T], padded at the end.
          mask: bool[B, T], True on words, which are at the beginning of a row.
          train: whether dropout is on.

        Returns:
          Word embeddings f32[B, T, E], zero on padding, and sentence embeddings f32[B, E], the last
          states of both directions. Neither depends on the tokens of the padding.
        """
        init = nn.initializers.uniform(0.2)
        table = self.param(
            "embedding", lambda *args: init(*args) - 0.1, (self.vocab_size, self.word_dim)
        )
        vectors = layers.Dropout(self.dropout, self.axis_name)(table[tokens], not train)
        # Each row is reversed within its length, so that padding stays at the end.
        position = jnp.arange(tokens.shape[1])[None, :]
        length = mask.sum(1, keepdims=True)
        reverse = jnp.where(mask, length - 1 - position, position)
        backward_in = jnp.take_along_axis(vectors, reverse[..., None], 1)
        forward, forward_last = self._direction("forward", vectors, mask)
        backward, backward_last = self._direction("backward", backward_in, mask)
        backward = jnp.take_along_axis(backward, reverse[..., None], 1)
        words = jnp.where(mask[..., None], jnp.concatenate([forward, backward], -1), 0)
        sentence = jnp.concatenate([forward_last, backward_last], -1)
        return words, layers.unit_mean_square(sentence) if self.normalize else sentence

    def _direction(
        self, name: str, vectors: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Outputs f32[B, T, E / 2] and the state f32[B, E / 2] after each row's last word."""
        size = self.embedding_dim // 2
        bound = size**-0.5

        def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        kernel_in = self.param(f"{name}_kernel_in", init, (vectors.shape[-1], 4 * size))
        kernel_hidden = self.param(f"{name}_kernel_hidden", init, (size, 4 * size))
        bias_in = self.param(f"{name}_bias_in", init, (4 * size,))
        bias_hidden = self.param(f"{name}_bias_hidden", init, (4 * size,))

        def cell(
            carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            hidden, memory = carry
            projected, valid = inputs
            gates = projected + self._product(hidden, kernel_hidden) + bias_hidden[None]
            gate_in, forget, candidate, gate_out = jnp.split(gates, 4, -1)
            new_memory = nn.sigmoid(forget) * memory + nn.sigmoid(gate_in) * jnp.tanh(candidate)
            new_hidden = nn.sigmoid(gate_out) * jnp.tanh(new_memory)
            hidden = jnp.where(valid[:, None], new_hidden, hidden)
            memory = jnp.where(valid[:, None], new_memory, memory)
            return (hidden, memory), hidden

        projected = jnp.swapaxes(self._product(vectors, kernel_in) + bias_in[None, None], 0, 1)
        zero = jnp.zeros((vectors.shape[0], size), projected.dtype)
        (last, _), outputs = jax.lax.scan(cell, (zero, zero), (projected, mask.T))
        return jnp.swapaxes(outputs, 0, 1), last

    def _product(self, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        product = to_compute_dtype(inputs, self.dtype) @ to_compute_dtype(kernel, self.dtype)
        return to_float32(product)
