"""Checkpoints of training state and data position, verified before they are used."""

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ssagan_jax.checkpointing.checksums import (
    CheckpointError,
    CorruptCheckpointError,
    CorruptionError,
    check_compatible,
    check_manifest,
    check_state,
    make_manifest,
)
from ssagan_jax.checkpointing.orbax_reading import (
    StateHandler,
    read_arrays,
    read_json,
    single_process_options,
)
from ssagan_jax.errors import escape_terminal
from ssagan_jax.untrusted.files import check_regular_files

if TYPE_CHECKING:
    import grain

PyTree = Any

_NO_TIMEOUT = 10 * 365 * 86_400  # seconds


class Checkpoints:
    """The checkpoints of one run, written in the background.

    A checkpoint is a folder named after its step. It holds the state, without a device axis, and a
    manifest with checksums, the tokenizer's hash and the position of the data iterator. Of several
    processes only the primary one opens them.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int | None, tokenizer: str) -> None:
        """Opens a folder of checkpoints.

        Args:
          folder: created if it is missing and `keep` is given.
          keep: the number of latest checkpoints to keep; None opens the folder read-only.
          tokenizer: SHA-256 of the run's tokenizer.
        """
        self._folder = Path(folder).absolute()
        self._tokenizer = tokenizer
        self._read_only = keep is None
        if not self._read_only:
            self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            read_only=self._read_only,
            cleanup_tmp_directories=not self._read_only,
            multiprocessing_options=single_process_options(),
            # Else orbax gives up after 20 minutes of the machine's clock, and, if it makes the
            # folders in the background, after 5: while a process is stopped, or the clock is set.
            async_options=ocp.options.AsyncOptions(
                timeout_secs=_NO_TIMEOUT, create_directories_asynchronously=False
            ),
        )
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        state_handler = StateHandler(multiprocessing_options=single_process_options())
        handlers.add("state", ocp.args.StandardSave, state_handler)
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, handler_registry=handlers
        )

    def latest(self) -> int | None:
        """The step of the latest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, state: PyTree, batches: "grain.DatasetIterator | None") -> None:
        """Starts to write the state under its step; does nothing if that checkpoint exists.

        Args:
          state: with its `step`.
          batches: the data iterator, whose position is saved; None for weights that were not
            trained here, from which no run can resume.

        Raises:
          Exception: whatever went wrong while the checkpoint before was written.
        """
        # Copies, since the next step overwrites the state's buffers while these are written.
        host = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        step = int(host.step)
        if step in self._manager.all_steps():
            return
        position = None if batches is None else batches.get_state()
        items = {
            "state": ocp.args.StandardSave(host),
            "meta": ocp.args.JsonSave(make_manifest(host, self._tokenizer, position)),
        }
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(
        self,
        template: PyTree,
        batches: "grain.DatasetIterator | None" = None,
        step: int | None = None,
    ) -> PyTree:
        """Reads a state, and moves a data iterator to the position that was saved with it.

        Without a `step`, corrupt checkpoints are reported and skipped. If the folder is open for
        writing they are moved to the folder "damaged" beside it, so that their steps can be saved
        again.

        Args:
          template: a state, or its shapes and types.
          batches: the iterator to move; None to restore the state alone.
          step: of the checkpoint; None for the latest intact one.

        Raises:
          CorruptCheckpointError: the checkpoint of that step, or every one, is corrupt.
          CheckpointError: there is none, or it does not fit `template` or the tokenizer.
        """
        corrupt: dict[int, CorruptionError] = {}
        for candidate in self._candidates(step):
            try:
                state, position = self._read(candidate, template)
            except CorruptionError as error:
                corrupt[candidate] = error
            else:
                break
        else:
            raise self._no_intact_checkpoint(corrupt)
        if batches is not None:
            if position is None:
                raise CheckpointError(
                    f"{self._folder / str(candidate)}: not of a training run, so it cannot be "
                    "resumed; choose another --workdir and set config.train.checkpoint to this one"
                )
            batches.set_state(position)
        self._skip(corrupt, candidate)
        return state

    def wait(self) -> None:
        """Waits until all checkpoints are on disk; raises what went wrong."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and closes the folder."""
        self._manager.close()

    def _candidates(self, step: int | None) -> list[int]:
        """Steps to try, in order."""
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise CheckpointError(f"{self._folder}: no checkpoint here; train first")
        if step is not None and step not in steps:
            raise CheckpointError(f"{self._folder}: no checkpoint {step}; there are {steps}")
        return steps[::-1] if step is None else [step]

    def _read(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any] | None]:
        """State and data position of a checkpoint; raises CorruptionError or CheckpointError."""
        # Not by the manager, which reads more files than needed, any of which may be damaged.
        folder = epath.Path(self._folder / str(step))
        check_regular_files(folder)
        manifest = read_json(folder / "meta")
        check_manifest(str(folder), manifest)
        check_compatible(str(folder), manifest, self._tokenizer, template)
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        state = read_arrays(folder / "state", template)
        check_state(state, manifest)
        return state, manifest["position"]

    def _skip(self, corrupt: dict[int, CorruptionError], intact: int) -> None:
        """Reports corrupt checkpoints, and moves them away if the folder is open for writing."""
        for step, error in corrupt.items():
            message = f"checkpoint {step} is damaged ({error}); using checkpoint {intact}"
            print(escape_terminal(message), file=sys.stderr, flush=True)
            if not self._read_only:
                self._move_to_damaged(step)
        if corrupt and not self._read_only:
            self._manager.reload()

    def _move_to_damaged(self, step: int) -> None:
        folder = self._folder.with_name("damaged")
        folder.mkdir(exist_ok=True)
        names = itertools.chain([f"{step}"], (f"{step}.{number}" for number in itertools.count(2)))
        unused = next(name for name in names if not (folder / name).exists())
        (self._folder / f"{step}").rename(folder / unused)

    def _no_intact_checkpoint(self, corrupt: dict[int, CorruptionError]) -> CorruptCheckpointError:
        listed = "; ".join(f"{step} ({error})" for step, error in corrupt.items())
        others = sorted(set(self._manager.all_steps()) - corrupt.keys())
        advice = f"use another one of {others}" if others else "restore a copy or train again"
        return CorruptCheckpointError(f"{self._folder}: damaged: {listed}; {advice}")
