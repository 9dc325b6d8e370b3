"""Checkpoints of state and data position, verified before they are used."""

import functools
import gc
import itertools
import logging
import os
import sys
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ssagan_jax.checkpointing.checksums import (
    CheckpointError,
    CorruptCheckpointError,
    CorruptionError,
    check_fit,
    check_manifest,
    check_state,
    make_manifest,
)

PyTree = Any


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

    A checkpoint holds the state without a device axis, and a manifest with the data iterator's
    position, the tokenizer's hash and checksums. Of several processes the first one alone has them.
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
        self._reading = keep is None
        if not self._reading:
            self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            read_only=self._reading,
            cleanup_tmp_directories=not self._reading,
            multiprocessing_options=_alone(),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest(self) -> int | None:
        """The newest checkpoint's step, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: PyTree, position: grain.DatasetIterator | None) -> None:
        """Starts to write the state under its step; does nothing where that is written already.

        `position` is None for weights that were not trained here, from which no run goes on.
        Raises what went wrong with the checkpoint before, which was still written.
        """
        # Copies, since the next step overwrites the state's buffers while these are written.
        host = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        step = int(host.step)
        if step in self._manager.all_steps():
            return
        place = None if position is None else position.get_state()
        items = {
            "state": ocp.args.StandardSave(host),
            "meta": ocp.args.JsonSave(make_manifest(host, self._tokenizer, place)),
        }
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(
        self,
        like: PyTree,
        position: grain.DatasetIterator | None = None,
        step: int | None = None,
    ) -> PyTree:
        """Reads a state, and puts a data iterator back to where it stood.

        Without a `step`, damaged checkpoints are named and stepped over. A folder that is not only
        read gives them up to the folder "damaged" beside it, so that their steps can be saved anew.

        Args:
          like: a state, or its shapes, to restore onto.
          position: the iterator to move, None to leave the data alone.
          step: the newest whole one where None.

        Raises:
          CorruptCheckpointError: that of the step, or every one, is not as it was written.
          CheckpointError: there is none, or it does not fit `like` or the tokenizer.
        """
        damaged: dict[int, CorruptionError] = {}
        for candidate in self._candidates(step):
            try:
                state, place = self._read(candidate, like)
            except CorruptionError as damage:
                damaged[candidate] = damage
                continue
            if position is not None:
                if place is None:
                    raise CheckpointError(
                        f"{self._folder / str(candidate)}: not of a training run that could go "
                        "on; choose another --workdir and name this one in config.train.checkpoint"
                    )
                position.set_state(place)
            self._step_over(damaged, candidate)
            return state
        raise self._none_whole(damaged)

    def wait(self) -> None:
        """Waits until what was saved is on disk; raises what went wrong."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self._manager.close()

    def _candidates(self, step: int | None) -> list[int]:
        """Steps to try, in order."""
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise CheckpointError(f"{self._folder}: no checkpoint here; train first")
        if step is not None and step not in steps:
            raise CheckpointError(f"{self._folder}: no checkpoint {step}; there are {steps}")
        return steps[::-1] if step is None else [step]

    def _read(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any] | None]:
        """State and position as they were written; raises Damage."""
        folder = epath.Path(self._folder / str(step))
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        # By the handlers alone: the manager reads more files, which may be damaged as well.
        args = ocp.args.JsonRestore()
        written = _read_item(
            ocp.JsonCheckpointHandler(multiprocessing_options=_alone()), folder / "meta", args
        )
        check_manifest(str(folder), written)
        check_fit(str(folder), written, self._tokenizer, like)
        args = ocp.args.StandardRestore(like)
        state = _read_item(
            ocp.StandardCheckpointHandler(multiprocessing_options=_alone()), folder / "state", args
        )
        check_state(state, written)
        return state, written["position"]

    def _step_over(self, damaged: dict[int, CorruptionError], whole: int) -> None:
        """Names the damaged, and gives their steps free in a folder that is not only read."""
        for step, damage in damaged.items():
            said = f"checkpoint {step} is damaged ({damage}); going on from {whole}"
            print(said, file=sys.stderr, flush=True)
            if not self._reading:
                self._set_aside(step)
        if damaged and not self._reading:
            self._manager.reload()

    def _set_aside(self, step: int) -> None:
        folder = self._folder.with_name("damaged")
        folder.mkdir(exist_ok=True)
        names = itertools.chain([f"{step}"], (f"{step}.{time}" for time in itertools.count(2)))
        free = next(name for name in names if not (folder / name).exists())
        (self._folder / f"{step}").rename(folder / free)

    def _none_whole(self, damaged: dict[int, CorruptionError]) -> CorruptCheckpointError:
        listed = "; ".join(f"{step} ({damage})" for step, damage in damaged.items())
        others = sorted(set(self._manager.all_steps()) - damaged.keys())
        advice = f"use another one of {others}" if others else "put a copy back or train anew"
        return CorruptCheckpointError(f"{self._folder}: damaged: {listed}; {advice}")


def _read_item(handler: ocp.CheckpointHandler, folder: epath.Path, args: Any) -> Any:
    """What a handler reads; whatever it raises is Damage, but for what the files cannot help."""
    _quieten_late_reads()
    logger = logging.getLogger("asyncio")
    logger.disabled = True  # It prints a traceback for each read that fails beside the first.
    try:
        try:
            return handler.restore(folder, args=args)
        except (PermissionError, MemoryError):
            raise
        except Exception as error:  # Parsers of other libraries raise all kinds.
            said = str(error).partition("\n")[0][:160] or type(error).__name__
        gc.collect()  # The other reads, while nobody listens.
        raise CorruptionError(f"{folder.name} cannot be read: {said}")
    finally:
        logger.disabled = False


@functools.cache  # Once a process.
def _quieten_late_reads() -> None:
    """Keeps reads that end after the first has failed from printing a traceback each."""
    hook = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = tell
