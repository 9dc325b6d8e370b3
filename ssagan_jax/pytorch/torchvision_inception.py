"""Loads Inception v3 weights in torchvision's layout or that of FID."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.models.inception import _INPUT_SIZE, InceptionV3Features
from ssagan_jax.pytorch.tensors_to_flax import match_tensors
from ssagan_jax.pytorch.weight_files import read_tensors

_TORCH_NAMES = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "bias": "bn.bias",
    "mean": "bn.running_mean",
    "variance": "bn.running_var",
}
_UNUSED = r"AuxLogits\.|.*\.num_batches_tracked$"


def from_torchvision(
    tensors: Mapping[str, np.ndarray],
    variant: str = "torchvision",
    logits: bool = False,
    source: str = "the state dict",
) -> dict[str, Any]:
    """Converts a state dict to variables of `InceptionV3Features(variant, logits)`.

    Args:
      tensors: by torchvision's names; the auxiliary classifier and, without `logits`, the
        classifier are ignored.
      variant: "torchvision" or "fid".
      logits: whether the module has the classifier.
      source: origin of the tensors, for error messages.

    Returns:
      {"trunk": float32 arrays}.

    Raises:
      ValueError: names every tensor that is missing, misshapen or unknown.
    """
    init = functools.partial(InceptionV3Features(variant, logits).init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, _INPUT_SIZE, _INPUT_SIZE, 3), jnp.float32)
    wanted = jax.eval_shape(init, images)["trunk"]
    ignored = _UNUSED if logits else rf"{_UNUSED}|fc\."
    return {"trunk": match_tensors(tensors, wanted, torch_name, ignored, source)}


def torch_name(path: tuple[str, ...]) -> str:
    """Torchvision's name for a variable of `InceptionV3Features`, given its path in "trunk"."""
    if path[0] == "fc":
        return "fc.weight" if path[-1] == "kernel" else "fc.bias"
    return ".".join((*path[:-1], _TORCH_NAMES[path[-1]]))


def load_inception(
    path: str | os.PathLike[str], variant: str = "torchvision", logits: bool = False
) -> dict[str, Any]:
    """Loads Inception v3 weights from a file of any format that `read_tensors` reads.

    Arguments, result and errors are those of `from_torchvision` and `read_tensors`.
    """
    return from_torchvision(read_tensors(path), variant, logits, os.fspath(path))
