"""The bi-LSTM text encoder against stored outputs of PyTorch's nn.LSTM."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.models.lstm import LstmTextEncoder

SHAPES = {
    "embedding.weight": (7, 3),
    "lstm.weight_ih_l0": (8, 3),
    "lstm.weight_hh_l0": (8, 2),
    "lstm.bias_ih_l0": (8,),
    "lstm.bias_hh_l0": (8,),
}
SHAPES |= {f"{name}_reverse": SHAPES[name] for name in SHAPES if name.startswith("lstm")}
TOKENS = np.array([[3, 1, 6, 2], [5, 4, 0, 0]])
MASK = np.array([[True] * 4, [True, True, False, False]])
# torch.nn.LSTM 2.13 on the packed sequences of 4 and 2 words, with the weights of `by_name`: both
# directions' outputs at the first and the last word, and their last states.
FIRST = [
    [-0.0019134188, -0.37674186, 0.016988434, -0.43618354],
    [-0.004925699, -0.29771495, 0.090794504, -0.65715468],
]
LAST = [
    [-0.030431377, -0.2967605, 0.061964151, -0.58810121],
    [0.10306026, -0.13634007, 0.47148907, -0.70121026],
]
STATES = [
    [-0.030431377, -0.2967605, 0.016988434, -0.43618354],
    [0.10306026, -0.13634007, 0.090794504, -0.65715468],
]


def by_name(name, shape):
    values = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1.5, 1.5, shape)
    return values.astype(np.float32)


def params_from_torch(tensors):
    """The encoder's parameters from those of a torch.nn.Embedding and a torch.nn.LSTM."""
    params = {"embedding": tensors["embedding.weight"]}
    for direction, ending in (("forward", ""), ("backward", "_reverse")):
        for ours, theirs in (("in", "ih"), ("hidden", "hh")):
            kernel = tensors[f"lstm.weight_{theirs}_l0{ending}"]
            params[f"{direction}_kernel_{ours}"] = kernel.T
            params[f"{direction}_bias_{ours}"] = tensors[f"lstm.bias_{theirs}_l0{ending}"]
    return params


PARAMS = jax.tree.map(
    jnp.asarray, params_from_torch({name: by_name(name, shape) for name, shape in SHAPES.items()})
)
ENCODER = LstmTextEncoder(vocab_size=7, embedding_dim=4, word_dim=3, dropout=0.9)


@jax.jit
def encode(tokens, mask):
    return ENCODER.apply({"params": PARAMS}, tokens, mask, False)


def test_outputs_are_those_of_pytorch():
    words, sentences = encode(TOKENS, MASK)
    np.testing.assert_allclose(words[:, 0], FIRST, atol=1e-6)
    np.testing.assert_allclose(words[[0, 1], [3, 1]], LAST, atol=1e-6)
    np.testing.assert_allclose(sentences, STATES, atol=1e-6)
    np.testing.assert_array_equal(words[1, 2:], 0)


def test_neither_padding_nor_other_rows_are_read():
    words, sentences = encode(TOKENS, MASK)
    others = np.array([6 - TOKENS[0], [*TOKENS[1, :2], 6, 6]])
    other_words, other_sentences = encode(others, MASK)
    np.testing.assert_array_equal(other_words[1], words[1])
    np.testing.assert_array_equal(other_sentences[1], sentences[1])
    assert not np.array_equal(other_words[0], words[0])


def test_a_caption_of_one_word():
    words, sentences = encode(TOKENS, np.arange(4) < [[1], [1]])
    alone, state = encode(TOKENS[:, :1], np.ones((2, 1), bool))
    np.testing.assert_allclose(words[:, :1], alone, atol=1e-6)
    np.testing.assert_allclose(sentences, state, atol=1e-6)
    # Both directions end at the same word.
    np.testing.assert_allclose(sentences, words[:, 0], atol=1e-6)


def test_word_vectors_are_dropped_in_training_only():
    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return ENCODER.apply({"params": PARAMS}, TOKENS, MASK, True, rngs=rngs)[1]

    assert np.abs(train(0) - train(1)).max() > 1e-3
