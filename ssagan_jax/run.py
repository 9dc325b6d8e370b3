"""A run: all that stays the same from its first step to its last, and how it is opened."""

import dataclasses
import json
import logging
import os
from typing import Any

import grain
import jax
import numpy as np
from absl import logging as absl_logging
from ml_collections import ConfigDict

from ssagan_jax.configuration import config_of, donor_of, validate
from ssagan_jax.data.pipeline import Pictures, evaluation_batches, training_batches
from ssagan_jax.data.sources import open_pictures
from ssagan_jax.data.tokenizer import (
    Tokenizer,
    learn_tokenizer,
    pretrained_tokenizer,
    tokenizer_of,
)
from ssagan_jax.donor import (
    donor_state,
    donor_tokenizer,
    with_donor_encoders,
    with_donor_sizes,
)
from ssagan_jax.evaluation.evaluator import Evaluator
from ssagan_jax.evaluation.scores import Score, write_scores
from ssagan_jax.painting import Painter, sheet_noise
from ssagan_jax.trained import state_shapes
from ssagan_jax.training.checkpoints import Checkpoints
from ssagan_jax.training.parallel import check_batch_size
from ssagan_jax.training.pretrained import with_pretrained_sizes, with_pretrained_weights
from ssagan_jax.training.processes import (
    check_same,
    from_first,
    is_first,
    together,
    told_by_first,
)
from ssagan_jax.training.state import (
    Optimizers,
    TrainState,
    build_networks,
    build_optimizers,
    initial_state,
)
from ssagan_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from a run's first step to its last.

    Attributes:
      damsm_steps: steps of stage 1.
      total_steps: steps of both stages.
      batches: this process's rows of them.
      checkpoints: None in all processes but the first.
      painter: for sheets, on one device.
      evaluator: for scores, on all devices.
      sample: the fixed captions of the sheets: a batch, its noise and its records.
    """

    config: ConfigDict
    workdir: Workdir
    tokenizer: Tokenizer
    optimizers: Optimizers
    damsm_steps: int
    total_steps: int
    batches: grain.DatasetIterator
    checkpoints: Checkpoints | None
    painter: Painter
    evaluator: Evaluator
    sample: tuple[dict[str, np.ndarray], np.ndarray, list[dict[str, Any]]]

    def score(self, state: TrainState) -> list[Score]:
        """Scores of a state, which are lines of eval/metrics.jsonl then."""
        scores = self.evaluator(state)
        if is_first():
            write_scores(self.workdir, scores)
        return scores

    def save(self, state: TrainState) -> None:
        """Starts to write a checkpoint."""
        if self.checkpoints:
            self.checkpoints.save(state, self.batches)

    def wait(self) -> None:
        """Waits until the checkpoints are on disk."""
        if self.checkpoints:
            self.checkpoints.wait()


def open_run(config: ConfigDict, workdir: str) -> tuple[Run, TrainState]:
    """Opens a run where its work folder stands, or a new one, which gets its config and tokenizer.

    Only the first process of several looks into the folder; the others learn from it.

    Raises:
      InputError: config, data, devices or folder cannot serve; nothing is written then.
    """
    validate(config)
    check_batch_size(config.train.batch_size, config.train.accumulate)
    folder = Workdir(workdir)
    told = told_by_first(lambda: json.dumps(_sized(config, folder).to_dict()))
    config = config_of(json.loads(told))
    pictures = together(lambda: open_pictures(config))
    told = told_by_first(lambda: _tokenizer(config, folder, pictures["train"]).text())
    tokenizer = tokenizer_of(told)
    # Nothing is written before all that could be refused was looked at.
    state = together(lambda: _state(config, folder, tokenizer))
    run = together(lambda: _prepare(config, folder, pictures, tokenizer))
    if jax.process_count() > 1:
        check_same("pictures, captions or Inception weights", run.evaluator.digest())
    state = from_first(together(lambda: _restored(run) if state is None else state))
    position = told_by_first(lambda: json.dumps(run.batches.get_state()))
    if not is_first():
        run.batches.set_state(json.loads(position))
    return run, state


def _sized(config: ConfigDict, folder: Workdir) -> ConfigDict:
    """The config with the sizes of the networks that it starts from, if it fits the folder."""
    if config.train.checkpoint:
        config = with_donor_sizes(config, folder if folder.checkpoint_steps() else None)
    else:
        config = with_pretrained_sizes(config)
    folder.check_config(config)
    return config


def _tokenizer(config: ConfigDict, folder: Workdir, pictures: Pictures) -> Tokenizer:
    """The folder's tokenizer, or else the one that the config asks for."""
    if folder.has_tokenizer():
        return folder.tokenizer()
    texts = map(pictures.text, range(len(pictures)))
    captions = (caption for text in texts for caption in text["captions"])
    if donor_of(config):
        return donor_tokenizer(config, captions)
    if config.tokenizer.pretrained:
        return pretrained_tokenizer(config.tokenizer.pretrained)
    return learn_tokenizer(config.tokenizer.kind, captions, config.tokenizer.vocab_size)


def _state(config: ConfigDict, folder: Workdir, tokenizer: Tokenizer) -> TrainState | None:
    """The state of a new run, None where the folder has one; in other processes, its form."""
    if not is_first():
        return jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), state_shapes(config, tokenizer)
        )
    return None if folder.checkpoint_steps() else _first_state(config, folder, tokenizer)


def _restored(run: Run) -> TrainState:
    return run.checkpoints.restore(state_shapes(run.config, run.tokenizer), run.batches)


def _prepare(
    config: ConfigDict, folder: Workdir, pictures: dict[str, Pictures], tokenizer: Tokenizer
) -> Run:
    """Opens all that a run needs; the folder gets its config and tokenizer."""
    data = config.data
    batches = training_batches(
        pictures["train"],
        tokenizer,
        image_size=data.image_size,
        max_words=data.max_words,
        random_flip=data.random_flip,
        batch_size=config.train.batch_size,
        seed=config.seed,
        share=(jax.process_index(), jax.process_count()),
    )
    evaluator = Evaluator(config, pictures, tokenizer)
    stages = evaluator.stages
    sample = _sample(config, pictures["validation"], tokenizer)
    checkpoints = None
    if is_first():
        folder.write_config(config)
        folder.write_tokenizer(tokenizer)
        keep = config.log.keep_checkpoints
        checkpoints = Checkpoints(folder.checkpoints, keep, tokenizer.digest)
    _log_to(folder.log if is_first() else os.devnull)
    return Run(
        config=config,
        workdir=folder,
        tokenizer=tokenizer,
        optimizers=build_optimizers(config, stages.damsm),
        damsm_steps=stages.damsm,
        total_steps=stages.total,
        batches=batches,
        checkpoints=checkpoints,
        painter=Painter(build_networks(config, tokenizer.vocabulary)),
        evaluator=evaluator,
        sample=sample,
    )


def _sample(
    config: ConfigDict, pictures: Pictures, tokenizer: Tokenizer
) -> tuple[dict[str, np.ndarray], np.ndarray, list[dict[str, Any]]]:
    """Captions and noise that all sheets of a run show, spread over the validation pictures."""
    rows = min(config.log.sheet_rows, len(pictures))
    names = sorted((pictures.text(index)["name"], index) for index in range(len(pictures)))
    # A step past an even spread: data in a regular order would show one kind alone.
    chosen = [names[(len(names) // rows * row + row) % len(names)][1] for row in range(rows)]
    ((batch, records),) = evaluation_batches(
        [pictures[index] for index in chosen],
        tokenizer,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        batch_size=rows,
    )
    return batch, sheet_noise(config, rows), records


def _first_state(config: ConfigDict, folder: Workdir, tokenizer: Tokenizer) -> TrainState:
    """The state of a new run, with what trained weights the config names."""
    if config.train.checkpoint:
        state = donor_state(config)
    else:
        state = jax.jit(lambda: initial_state(config, tokenizer.vocabulary))()
        add_weights = with_donor_encoders if donor_of(config) else with_pretrained_weights
        state = add_weights(state, config)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    folder.check_room(size * (config.log.keep_checkpoints + 1))
    return state


def _log_to(file: str | os.PathLike[str]) -> None:
    """The libraries' messages go to a file; the terminal keeps the progress bar."""
    logging.raiseExceptions = False  # A log that finds no room is no reason for tracebacks.
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = absl_logging.get_absl_logger()
    logger.handlers = [handler]
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.INFO)
