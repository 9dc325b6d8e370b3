"""Checksums that reveal damage: of a checkpoint's tensors, with their layout, and of files."""

import hashlib
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.errors import InputError
from ssagan_jax.untrusted.files import open_regular, read_json

PyTree = Any
Manifest = dict[str, Any]

_ENTRIES = {"layout", "checksums", "tokenizer", "position"}  # besides the digest of them all
_FILE_CHECKSUMS = "file_checksums.json"


class CheckpointError(InputError):
    """A checkpoint is missing, or belongs to another model, tokenizer or version."""


class CorruptCheckpointError(CheckpointError):
    """The files of a checkpoint have changed since they were written."""


class CorruptionError(Exception):
    """What was read differs from what was written; the text is part of a longer message."""


def make_manifest(state: PyTree, tokenizer: str, position: dict[str, Any] | None) -> Manifest:
    """The manifest of a state, as JSON values.

    Args:
      state: numpy arrays; the manifest gets their layout and a CRC-32 of each one's bytes.
      tokenizer: SHA-256 of the run's tokenizer.
      position: of the data iterator; None for weights that no training run can resume from.
    """
    leaves = _leaves_by_path(state)
    with ThreadPoolExecutor() as pool:  # zlib releases the GIL.
        checksums = dict(zip(leaves, pool.map(_crc32, leaves.values()), strict=True))
    content = {
        "layout": _layout(state),
        "checksums": checksums,
        "tokenizer": tokenizer,
        "position": position,
    }
    return content | {"digest": _digest(content)}


def check_manifest(name: str, manifest: Any) -> None:
    """Checks that a manifest is as it was written.

    Raises:
      CorruptionError: it has changed.
      CheckpointError: it is intact, but has other entries than this version writes.
    """
    if not isinstance(manifest, dict):
        raise CorruptionError("its manifest is not a JSON object")
    content = {entry: value for entry, value in manifest.items() if entry != "digest"}
    if manifest.get("digest") != _digest(content):
        raise CorruptionError("its manifest was changed")
    if content.keys() != _ENTRIES:
        raise CheckpointError(
            f"{name}: its manifest has the entries {', '.join(sorted(content))}, not "
            f"{', '.join(sorted(_ENTRIES))}; use the version that wrote it, or train in another "
            "--workdir"
        )


def check_compatible(name: str, manifest: Manifest, tokenizer: str, template: PyTree) -> None:
    """Raises CheckpointError if an intact manifest is of another tokenizer or model."""
    if manifest["tokenizer"] != tokenizer:
        raise CheckpointError(
            f"{name}: was saved with the tokenizer {manifest['tokenizer'][:12]}, but this folder "
            f"has {tokenizer[:12]}; restore the tokenizer.json of the checkpoint"
        )
    saved, expected = manifest["layout"], _layout(template)
    mismatches = [
        f"{path}: saved {saved.get(path, '-')}, the model has {expected.get(path, '-')}"
        for path in sorted(saved.keys() | expected.keys())
        if saved.get(path) != expected.get(path)
    ]
    if mismatches:
        listed = "\n  ".join(mismatches[:10])
        raise CheckpointError(
            f"{name}: {len(mismatches)} tensors differ from the model's:\n  {listed}\n"
            "Use the config that the checkpoint was trained with"
        )


def check_state(state: PyTree, manifest: Manifest) -> None:
    """Raises CorruptionError for the first tensor that differs from an intact manifest."""
    layout = _layout(state)
    for path, leaf in _leaves_by_path(state).items():
        unchanged = layout[path] == manifest["layout"][path]
        if not unchanged or _crc32(leaf) != manifest["checksums"][path]:
            raise CorruptionError(f"{path} was changed")


def write_file_checksums(folder: str | os.PathLike[str]) -> None:
    """Writes the SHA-256 of each file of a folder to file_checksums.json in it."""
    content = json.dumps(_file_checksums(Path(folder)), indent=1)
    write_atomically(Path(folder) / _FILE_CHECKSUMS, content + "\n")


def check_file_checksums(folder: str | os.PathLike[str]) -> None:
    """Raises CorruptionError for the first file that is not as `write_file_checksums` found it."""
    written, found = read_json(Path(folder) / _FILE_CHECKSUMS), _file_checksums(Path(folder))
    if not isinstance(written, dict):
        raise CorruptionError(f"{_FILE_CHECKSUMS} is not a JSON object")
    for name, checksum in written.items():
        if name not in found:
            raise CorruptionError(f"{name} is missing")
        if found[name] != checksum:
            raise CorruptionError(f"{name} was changed")


def _file_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by its path relative to it."""

    def checksum(path: Path) -> str:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:  # hashlib releases the GIL.
        checksums = list(pool.map(checksum, paths))
    names = (path.relative_to(folder).as_posix() for path in paths)
    return dict(zip(names, checksums, strict=True))


def _leaves_by_path(state: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _layout(state: PyTree) -> dict[str, str]:
    """Type and shape of each leaf, as text, by its path."""
    return {
        path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in _leaves_by_path(state).items()
    }


def _crc32(leaf: np.ndarray) -> int:
    # As bytes: zlib cannot read an array of bfloat16.
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))


def _digest(content: Manifest) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
