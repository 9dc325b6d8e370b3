"""What a checkpoint says of its own content: damage shows, and so does another model."""

import hashlib
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from ssagan_jax.errors import InputError

PyTree = Any
Manifest = dict[str, Any]

_OLDER = {"layout", "tokenizer"}  # Entries of the form that held no checksums.


class CheckpointError(InputError):
    """No such checkpoint, or one of another model, tokenizer or version."""


class CorruptCheckpointError(CheckpointError):
    """A checkpoint whose files are not as they were written."""


class CorruptionError(Exception):
    """What is read is not what was written; the text is the end of a sentence."""


def make_manifest(state: PyTree, tokenizer: str, position: dict[str, Any] | None) -> Manifest:
    """The manifest of a state of numpy arrays, for JSON.

    Args:
      state: of which it holds the layout and a CRC-32 of each leaf's bytes.
      tokenizer: hash of the run's tokenizer.
      position: state of the data iterator, None where there is none to go on from.
    """
    leaves = _leaves(state)
    with ThreadPoolExecutor() as pool:  # zlib lets other threads run.
        checksums = dict(zip(leaves, pool.map(_checksum, leaves.values()), strict=True))
    content = {
        "layout": _layout(state),
        "checksums": checksums,
        "tokenizer": tokenizer,
        "position": position,
    }
    return content | {"digest": _digest(content)}


def check_manifest(name: str, found: Any) -> None:
    """Refuses what is not a manifest as it was written.

    Raises:
      Damage: it was changed since.
      CheckpointError: it is of an older version, which had no checksums.
    """
    if not isinstance(found, dict):
        raise CorruptionError("its manifest is no table")
    if found.keys() == _OLDER:
        raise CheckpointError(
            f"{name}: made by an older version, whose checkpoints held no checksums; use that "
            "version, or train anew in another --workdir"
        )
    content = {entry: value for entry, value in found.items() if entry != "digest"}
    if found.get("digest") != _digest(content):
        raise CorruptionError("its manifest was changed")


def check_fit(name: str, written: Manifest, tokenizer: str, like: PyTree) -> None:
    """Raises CheckpointError for a whole manifest of another tokenizer or model."""
    if written["tokenizer"] != tokenizer:
        raise CheckpointError(
            f"{name}: made with the tokenizer {written['tokenizer'][:12]}, not this folder's "
            f"{tokenizer[:12]}; put its own tokenizer.json back"
        )
    saved, wanted = written["layout"], _layout(like)
    faults = [
        f"{path}: saved {saved.get(path, '-')}, the model has {wanted.get(path, '-')}"
        for path in sorted(saved.keys() | wanted.keys())
        if saved.get(path) != wanted.get(path)
    ]
    if faults:
        listed = "\n  ".join(faults[:10])
        raise CheckpointError(
            f"{name}: {len(faults)} tensors differ from the model's:\n  {listed}\n"
            "Use the config that the checkpoint was trained with"
        )


def check_state(state: PyTree, written: Manifest) -> None:
    """Raises Damage, naming the first tensor whose bytes are not those of a whole manifest."""
    found = _layout(state)
    for path, leaf in _leaves(state).items():
        if found[path] != written["layout"][path] or _checksum(leaf) != written["checksums"][path]:
            raise CorruptionError(f"{path} was changed")


def _leaves(state: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _layout(state: PyTree) -> dict[str, str]:
    """Path of every leaf with its shape and type, as text."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in _leaves(state).items()}


def _checksum(leaf: np.ndarray) -> int:
    # As bytes, since zlib cannot read an array of bfloat16.
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))


def _digest(content: Manifest) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
