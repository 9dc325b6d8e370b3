"""Keeps the best checkpoint by a score apart from the latest ones."""

import math
from collections.abc import Sequence

import grain

from ssagan_jax.checkpointing.best_checkpoint import BestCheckpoint, read_best, write_best
from ssagan_jax.config.validation import BEST_SCORES
from ssagan_jax.distributed import print_on_primary
from ssagan_jax.evaluation.scores import Score
from ssagan_jax.steps.state import TrainState
from ssagan_jax.workdir import Workdir


def keep_if_best(
    workdir: Workdir,
    name: str,
    scores: Sequence[Score],
    state: TrainState,
    batches: grain.DatasetIterator,
    tokenizer: str,
) -> None:
    """Keeps a state if it is better than the best one so far; equal ones do not replace it.

    Args:
      workdir: of the run.
      name: one of `BEST_SCORES`, or "" to keep none.
      scores: of the state.
      state: without a device axis.
      batches: the data iterator, at the state's step.
      tokenizer: SHA-256 of the run's tokenizer.
    """
    found = [score for score in scores if score.name.removesuffix("_torchvision") == name]
    if not found or not math.isfinite(found[0].value):
        if name:
            print_on_primary(f"config.eval.best={name!r} has no value here, so nothing is kept")
        return
    number = found[0].recipe.get("num_generated", 0)
    best = BestCheckpoint(found[0].step, found[0].name, found[0].value, number)
    last = read_best(workdir)
    # Another score than before starts over. A resumed run may pass the best step once more.
    if last and (last.score, last.num) == (best.score, best.num):
        if last.step == best.step or BEST_SCORES[name](best.value, last.value) == last.value:
            return
    write_best(workdir, best, state, batches, tokenizer)
    print_on_primary(f"step {best.step}: best {best.score} so far, {best.value:.4g}")
