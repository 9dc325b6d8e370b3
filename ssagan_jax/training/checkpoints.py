"""Checkpoints of state and data position, verified before they are restored."""

import os
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from ssagan_jax.failures import InputError

PyTree = Any


class CheckpointError(InputError):
    """No such checkpoint, or one of another model or tokenizer."""


def _layout(state: PyTree) -> dict[str, str]:
    """Path of every leaf with its shape and type, as text."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _alone() -> ocp.options.MultiprocessingOptions:
    """This process waits for no other: the state is the same in all, and one of them writes it."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )


class Checkpoints:
    """The checkpoints of one run, written in the background.

    A checkpoint holds the state without a device axis, the data iterator's position and the
    tokenizer's hash.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int | None, tokenizer: str) -> None:
        """Opens a folder of checkpoints.

        Args:
          folder: made where it is missing, if `keep` is given.
          keep: the last so many are kept; None opens the folder for reading.
          tokenizer: hash of the run's tokenizer.
        """
        self._folder = Path(folder).absolute()
        self._tokenizer = tokenizer
        reading = keep is None
        if not reading:
            self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            read_only=reading,
            cleanup_tmp_directories=not reading,
            multiprocessing_options=_alone(),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest(self) -> int | None:
        """The newest checkpoint's step, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: PyTree, position: grain.DatasetIterator | None) -> None:
        """Starts to write the state under its step; does nothing where that is written already.

        `position` is None for weights that were not trained here, from which no run goes on.
        """
        # Copies, since the next step overwrites the state's buffers while these are written.
        host = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        step = int(host.step)
        if step in self._manager.all_steps():
            return
        meta = {"layout": _layout(host), "tokenizer": self._tokenizer}
        items = {"state": ocp.args.StandardSave(host), "meta": ocp.args.JsonSave(meta)}
        if position is not None:
            items["position"] = grain.checkpoint.CheckpointSave(position)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(
        self,
        like: PyTree,
        position: grain.DatasetIterator | None = None,
        step: int | None = None,
    ) -> PyTree:
        """Reads a state, and puts a data iterator back to where it stood.

        Args:
          like: a state, or its shapes, to restore onto.
          position: the iterator to move, None to leave the data alone.
          step: the latest where None.

        Raises:
          CheckpointError: there is no such checkpoint, it is damaged, or it does not fit `like` or
            the tokenizer.
        """
        step = self._choose(step)
        self._verify(step, self._read(step, {"meta": ocp.args.JsonRestore()}).meta, like)
        abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        items = {"state": ocp.args.StandardRestore(abstract)}
        if position is not None:
            if not (self._folder / str(step) / "position").exists():
                raise CheckpointError(
                    f"{self._folder / str(step)}: not of a training run that could go on; choose "
                    "another --workdir and name this one in config.train.checkpoint"
                )
            items["position"] = grain.checkpoint.CheckpointRestore(position)
        return self._read(step, items).state

    def wait(self) -> None:
        """Waits until what was saved is on disk; raises what went wrong."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self._manager.close()

    def _read(self, step: int, items: dict[str, Any]) -> ocp.args.Composite:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, FileNotFoundError) as error:
            reason = str(error).partition("\n")[0][:160]
            raise CheckpointError(
                f"{self._folder / str(step)}: damaged ({reason}); remove it, or use another one of "
                f"{sorted(self._manager.all_steps())}"
            ) from error

    def _choose(self, step: int | None) -> int:
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise CheckpointError(f"{self._folder}: no checkpoint here; train first")
        if step is not None and step not in steps:
            raise CheckpointError(f"{self._folder}: no checkpoint {step}; there are {steps}")
        return steps[-1] if step is None else step

    def _verify(self, step: int, meta: dict[str, Any], like: PyTree) -> None:
        name = f"{self._folder / str(step)}"
        if meta["tokenizer"] != self._tokenizer:
            raise CheckpointError(
                f"{name}: made with the tokenizer {meta['tokenizer'][:12]}, not this folder's "
                f"{self._tokenizer[:12]}; put its own tokenizer.json back"
            )
        saved, wanted = meta["layout"], _layout(like)
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
