"""PyTorch's tensors as Flax variables: names, shapes and the order of axes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util


def match_tensors(
    tensors: Mapping[str, np.ndarray],
    variables: Any,
    torch_name: Callable[[tuple[str, ...]], str],
    ignored: str,
    source: str,
) -> dict[str, Any]:
    """Renames, checks and transposes PyTorch's tensors to a tree of float32 Flax variables.

    Args:
      tensors: by PyTorch's names.
      variables: the nested dictionary to fill, its leaves with a `shape`. Leaves with "kernel" in
        their name are [in, out] or [height, width, in, out]; PyTorch's are [out, in(, height,
        width)].
      torch_name: from a leaf's path to its name in `tensors`.
      ignored: regular expression; tensors whose names begin with a match may remain unused.
      source: origin of the tensors, for error messages.

    Raises:
      ValueError: names every tensor that is missing, misshapen or unknown.
    """
    arrays, problems, unused = {}, [], dict(tensors)
    for path, wanted in traverse_util.flatten_dict(variables).items():
        name, shape = torch_name(path), tuple(wanted.shape)
        order = tuple(range(len(shape)))
        if "kernel" in path[-1]:
            shape, order = (shape[-1], shape[-2], *shape[:-2]), (*order[2:], 1, 0)
        tensor = unused.pop(name, None)
        if tensor is None:
            problems.append(f"{name} is missing")
        elif tensor.shape != shape:
            problems.append(f"{name} has shape {tensor.shape} instead of {shape}")
        else:
            arrays[path] = np.ascontiguousarray(tensor.transpose(order), np.float32)
    problems += [f"{name} is unknown" for name in unused if not re.match(ignored, name)]
    if problems:
        raise ValueError(f"{source} does not fit the network: {'; '.join(problems)}")
    return traverse_util.unflatten_dict(arrays)
