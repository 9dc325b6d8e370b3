"""The bi-LSTM text encoder against stored outputs of PyTorch's nn.LSTM."""

import zlib

import jax
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


def test_outputs_are_those_of_pytorch():
    params = params_from_torch({name: by_name(name, shape) for name, shape in SHAPES.items()})
    encoder = LstmTextEncoder(vocab_size=7, embedding_dim=4, word_dim=3)
    encode = jax.jit(encoder.apply, static_argnums=3)
    words, sentences = encode({"params": params}, TOKENS, MASK, False)
    np.testing.assert_allclose(words[:, 0], FIRST, atol=1e-6)
    np.testing.assert_allclose(words[[0, 1], [3, 1]], LAST, atol=1e-6)
    np.testing.assert_allclose(sentences, STATES, atol=1e-6)
    np.testing.assert_array_equal(words[1, 2:], 0)
