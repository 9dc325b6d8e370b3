"""Maps PyTorch's names and shapes of SSA-GAN, AttnGAN and DF-GAN to ours, and back.

The names are those of wtliao/text2image (model.py, DAMSM.py), whose encoders are AttnGAN's and
DF-GAN's: netG (`NetG`), netD (`NetD`), text_encoder (`RNN_ENCODER`) and image_encoder
(`CNN_ENCODER`). The networks may be narrower or for other image sizes than the published ones.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from ssagan_jax.pytorch.tensors_to_flax import match_tensors
from ssagan_jax.pytorch.torchvision_inception import torch_name

Tensors = Mapping[str, np.ndarray]

# From our names to those of files, and of networks inside of files that hold several.
PYTORCH_NETWORKS = {
    "generator": "netG",
    "discriminator": "netD",
    "text_encoder": "text_encoder",
    "image_encoder": "image_encoder",
}
_NONE = "(?!)"  # A pattern without matches.
_MAX_BLOCKS = 9  # For images of 1024 pixels.

# Patterns over a variable's path, joined by dots and without its collection; applied in order.
_LEAVES = ((r"\.(kernel|scale)$", ".weight"), (r"\.mean$", ".running_mean"))
_LEAVES += ((r"\.var$", ".running_var"), (r"residual_gain$", "gamma"))
_RULES = {
    "generator": (
        (r"^Dense_0", "fc"),
        (r"^BatchNorm_0", "conv_img.0"),
        (r"^to_rgb", "conv_img.2"),
        (r"^mask0", "conv_mask"),
        *((rf"^mask{n + 1}\.", f"block{n}.conv_mask.") for n in range(_MAX_BLOCKS)),
        (r"conv_mask\.Conv_0", "conv_mask.0"),
        (r"conv_mask\.BatchNorm_0", "conv_mask.1"),
        (r"conv_mask\.Conv_1", "conv_mask.3"),
        (r"\.Conv_0", ".c1"),
        (r"\.Conv_1", ".c2"),
        (r"\.shortcut", ".c_sc"),
        (r"\.sscbn0", ".affine0"),
        (r"\.sscbn1", ".affine2"),
        (r"\.BatchNorm_0", ".batch_norm2d"),
        (r"(gamma|beta)_hidden", r"fc_\1.linear1"),
        (r"(gamma|beta)_out", r"fc_\1.linear2"),
        *_LEAVES,
    ),
    "discriminator": (
        (r"^from_rgb", "conv_img"),
        (r"^blocks_", "block"),
        (r"DownsampleConv_0", "conv_r.0"),
        (r"\.Conv_0", ".conv_r.2"),
        (r"\.shortcut", ".conv_s"),
        (r"^joint", "COND_DNET.joint_conv.0"),
        (r"^to_logit", "COND_DNET.joint_conv.2"),
        *_LEAVES,
    ),
    "text_encoder": (
        (r"^embedding$", "encoder.weight"),
        (r"^(\w+)_kernel_in$", r"rnn.weight_ih_l0_\1"),
        (r"^(\w+)_kernel_hidden$", r"rnn.weight_hh_l0_\1"),
        (r"^(\w+)_bias_in$", r"rnn.bias_ih_l0_\1"),
        (r"^(\w+)_bias_hidden$", r"rnn.bias_hh_l0_\1"),
        (r"_forward$", ""),
        (r"_backward$", "_reverse"),
    ),
    "image_encoder": ((r"^regions", "emb_features"), (r"^code", "emb_cnn_code"), *_LEAVES),
}


def infer_sizes(network: str, tensors: Tensors) -> dict[str, int]:
    """Infers the sizes of a network of PYTORCH_NETWORKS from the shapes of its state dict.

    Returns:
      embedding_dim always; noise_dim, channels, mask_channels and image_size of the generator;
      channels and image_size of the discriminator; vocab_size and word_dim of the text encoder.

    Raises:
      ValueError: a tensor that is needed for it is missing or misshapen.
    """

    def size(name: str, axis: int, dimensions: int) -> int:
        if name not in tensors:
            raise ValueError(f"{name} is missing; is this the file of a {network}?")
        if tensors[name].ndim != dimensions:
            raise ValueError(f"{name} has shape {tensors[name].shape}, not {dimensions} dimensions")
        return tensors[name].shape[axis]

    numbers = re.findall(r"^block(\d{1,2})\.", "\n".join(tensors), re.MULTILINE)
    blocks = max(map(int, numbers), default=0) + 1
    if network == "generator":
        found = {
            "embedding_dim": size("block0.affine0.fc_gamma.linear1.weight", 1, 2),
            "noise_dim": size("fc.weight", 1, 2),
            "channels": size("fc.weight", 0, 2) // (4 * 4 * 8),
            "mask_channels": size("conv_mask.0.weight", 0, 4),
            "image_size": 4 * 2 ** (blocks - 1),
        }
    elif network == "discriminator":
        channels = size("conv_img.weight", 0, 4)
        joined = size("COND_DNET.joint_conv.0.weight", 1, 4)
        embedding_dim = joined - channels * min(16, 2**blocks)
        found = dict(embedding_dim=embedding_dim, channels=channels, image_size=4 * 2**blocks)
    elif network == "text_encoder":
        found = {
            "embedding_dim": 2 * size("rnn.weight_hh_l0", 1, 2),
            "vocab_size": size("encoder.weight", 0, 2),
            "word_dim": size("encoder.weight", 1, 2),
        }
    else:
        found = {"embedding_dim": size("emb_features.weight", 0, 4)}
    if wrong := [f"{key} {value}" for key, value in found.items() if value < 1]:
        raise ValueError(f"its tensors' shapes give {', '.join(wrong)}: not a {network}")
    return found


def from_pytorch(
    network: str, tensors: Tensors, wanted: Any, source: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Converts a state dict to our variables.

    Args:
      network: a key of PYTORCH_NETWORKS.
      tensors: its state dict.
      wanted: collections of variables to fill, leaves with a `shape`.
      source: origin of the state dict, for error messages.

    Returns:
      Float32 variables like `wanted`, and the tensors that our network does not use, by name.

    Raises:
      ValueError: names every tensor that is missing, misshapen or unknown.
    """
    unused = _unused(network, wanted)
    spare = {name: tensor for name, tensor in tensors.items() if name in unused}
    rest = {name: _reorder(name, t, network) for name, t in tensors.items() if name not in unused}
    variables = match_tensors(rest, wanted, functools.partial(_torch_name, network), _NONE, source)
    for name, tensor in spare.items():
        if tensor.shape != unused[name].shape:
            raise ValueError(
                f"{source}: {name} has shape {tensor.shape} instead of {unused[name].shape}"
            )
    return variables, spare


def to_pytorch(network: str, variables: Any, spare: Tensors | None = None) -> dict[str, np.ndarray]:
    """The state dict of a network's variables, sorted by name; the inverse of `from_pytorch`.

    `spare` are the tensors that our network does not use; without it they are zeros, so that
    PyTorch's strict `load_state_dict` finds every name.
    """
    tensors = dict(_unused(network, variables) if spare is None else spare)
    for path, leaf in traverse_util.flatten_dict(variables).items():
        name, tensor = _torch_name(network, path), np.asarray(leaf)
        if "kernel" in path[-1]:
            last = (tensor.ndim - 1, tensor.ndim - 2)
            tensor = tensor.transpose(*last, *range(tensor.ndim - 2))
        tensors[name] = _reorder(name, tensor, network, back=True)
    return {name: np.array(tensors[name], order="C") for name in sorted(tensors)}


def _torch_name(network: str, path: tuple[str, ...]) -> str:
    """PyTorch's name for a variable, given its path, which begins with the collection."""
    if path[0] == "trunk":
        return torch_name(path[2:])
    name = ".".join(path[1:])
    for pattern, replacement in _RULES[network]:
        name = re.sub(pattern, replacement, name)
    return name


def _reorder(name: str, tensor: np.ndarray, network: str, back: bool = False) -> np.ndarray:
    """Reorders tensors that differ by more than the order of a kernel's axes."""
    rows = tensor.shape[0] if tensor.ndim else 0
    if network == "generator" and name in ("fc.weight", "fc.bias") and rows % 16 == 0 < rows:
        # PyTorch's rows count channels first, then the 4 x 4 pixels; ours the other way.
        first = 16 if back else rows // 16
        split = tensor.reshape(first, rows // first, *tensor.shape[1:])
        return split.swapaxes(0, 1).reshape(tensor.shape)
    # A 1 x 1 convolution, which is a linear layer here.
    if name == "emb_features.weight" and back:
        return tensor[:, :, None, None]
    if name == "emb_features.weight" and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    return tensor


def _unused(network: str, variables: Any) -> dict[str, np.ndarray]:
    """Zeros for the tensors that only PyTorch's networks have, by name.

    These are the counters of batch norms, and the convolutions that NetD creates but never calls
    where a shortcut is the identity.
    """
    paths = traverse_util.flatten_dict(variables)
    leaves = {_torch_name(network, path): leaf for path, leaf in paths.items()}
    unused: dict[str, np.ndarray] = {}
    for name, leaf in leaves.items():
        block, _, layer = name.partition(".")
        if layer == "conv_r.2.weight" and f"{block}.conv_s.weight" not in leaves:
            width = leaf.shape[-1]
            unused[f"{block}.conv_s.weight"] = np.zeros((width, width, 1, 1), np.float32)
            unused[f"{block}.conv_s.bias"] = np.zeros(width, np.float32)
        module, _, last = name.rpartition(".")
        if last == "running_mean":
            unused[f"{module}.num_batches_tracked"] = np.zeros((), np.int64)
    return unused
