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

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.config import config_from_dict, warm_start_dir
from ssagan_jax.config_validation import validate
from ssagan_jax.data.datasets import open_datasets
from ssagan_jax.data.pipeline import CaptionedImages, evaluation_batches, training_batches
from ssagan_jax.data.tokenizer import (
    Tokenizer,
    learn_tokenizer,
    pretrained_tokenizer,
    tokenizer_from_json,
)
from ssagan_jax.distributed import (
    assert_equal_across_processes,
    broadcast_text,
    broadcast_tree,
    is_primary,
    raise_together,
)
from ssagan_jax.evaluation.evaluator import Evaluator
from ssagan_jax.evaluation.scores import Score, write_scores
from ssagan_jax.inference.sampler import Sampler, sample_noise
from ssagan_jax.schedule import Schedule, make_schedule
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers
from ssagan_jax.steps.pmap import check_batch_size
from ssagan_jax.steps.state import TrainState, abstract_state, initial_state
from ssagan_jax.training.pretrained_encoders import with_pretrained_sizes, with_pretrained_weights
from ssagan_jax.training.warm_start import (
    warm_start_state,
    warm_start_tokenizer,
    with_warm_start_encoders,
    with_warm_start_sizes,
)
from ssagan_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What stays the same from a run's first step to its last.

    Attributes:
      damsm_steps: steps of stage 1.
      total_steps: steps of both stages.
      batches: this process's rows of them.
      checkpoints: None in all processes but the first.
      sampler: for sheets, on one device.
      evaluator: for scores, on all devices.
      sample: the fixed captions of the sheets: a batch, its noise and its records.
    """

    config: ConfigDict
    workdir: Workdir
    tokenizer: Tokenizer
    optimizers: Optimizers
    schedule: Schedule
    damsm_steps: int
    total_steps: int
    batches: grain.DatasetIterator
    checkpoints: Checkpoints | None
    sampler: Sampler
    evaluator: Evaluator
    sample: tuple[dict[str, np.ndarray], np.ndarray, list[dict[str, Any]]]

    def score(self, state: TrainState) -> list[Score]:
        """Scores of a state, which are lines of eval/metrics.jsonl then."""
        scores = self.evaluator(state)
        if is_primary():
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


def open_run(config: ConfigDict, workdir: str) -> tuple[TrainingRun, TrainState]:
    """Opens a run where its work folder stands, or a new one, which gets its config and tokenizer.

    Only the first process of several looks into the folder; the others learn from it.

    Raises:
      InputError: config, data, devices or folder cannot serve; nothing is written then.
    """
    validate(config)
    check_batch_size(config.train.batch_size, config.train.grad_accumulation_steps)
    folder = Workdir(workdir)
    told = broadcast_text(lambda: json.dumps(_sized(config, folder).to_dict()))
    config = config_from_dict(json.loads(told))
    pictures = raise_together(lambda: open_datasets(config))
    told = broadcast_text(lambda: _tokenizer(config, folder, pictures["train"]).to_json())
    tokenizer = tokenizer_from_json(told)
    # Nothing is written before all that could be refused was looked at.
    state = raise_together(lambda: _state(config, folder, tokenizer))
    run = raise_together(lambda: _prepare(config, folder, pictures, tokenizer))
    if jax.process_count() > 1:
        assert_equal_across_processes(
            "pictures, captions or Inception weights", run.evaluator.digest()
        )
    state = broadcast_tree(raise_together(lambda: _restored(run) if state is None else state))
    position = broadcast_text(lambda: json.dumps(run.batches.get_state()))
    if not is_primary():
        run.batches.set_state(json.loads(position))
    return run, state


def _sized(config: ConfigDict, folder: Workdir) -> ConfigDict:
    """The config with the sizes of the networks that it starts from, if it fits the folder."""
    if config.train.checkpoint:
        config = with_warm_start_sizes(config, folder if folder.checkpoint_steps() else None)
    else:
        config = with_pretrained_sizes(config)
    folder.check_config(config)
    return config


def _tokenizer(config: ConfigDict, folder: Workdir, pictures: CaptionedImages) -> Tokenizer:
    """The folder's tokenizer, or else the one that the config asks for."""
    if folder.has_tokenizer():
        return folder.tokenizer()
    texts = map(pictures.metadata, range(len(pictures)))
    captions = (caption for text in texts for caption in text["captions"])
    if warm_start_dir(config):
        return warm_start_tokenizer(config, captions)
    if config.tokenizer.pretrained:
        return pretrained_tokenizer(config.tokenizer.pretrained)
    return learn_tokenizer(config.tokenizer.kind, captions, config.tokenizer.vocab_size)


def _state(config: ConfigDict, folder: Workdir, tokenizer: Tokenizer) -> TrainState | None:
    """The state of a new run, None where the folder has one; in other processes, its form."""
    if not is_primary():
        return jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract_state(config, tokenizer)
        )
    return None if folder.checkpoint_steps() else _first_state(config, folder, tokenizer)


def _restored(run: TrainingRun) -> TrainState:
    return run.checkpoints.restore(abstract_state(run.config, run.tokenizer), run.batches)


def _prepare(
    config: ConfigDict, folder: Workdir, pictures: dict[str, CaptionedImages], tokenizer: Tokenizer
) -> TrainingRun:
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
        shard=(jax.process_index(), jax.process_count()),
    )
    schedule = make_schedule(config, len(pictures["train"]))
    evaluator = Evaluator(config, pictures, tokenizer, schedule)
    sample = _sample(config, pictures["validation"], tokenizer)
    checkpoints = None
    if is_primary():
        folder.write_config(config)
        folder.write_tokenizer(tokenizer)
        folder.write_schedule(schedule)
        keep = config.log.keep_checkpoints
        checkpoints = Checkpoints(folder.checkpoints, keep, tokenizer.digest)
    _log_to(folder.log if is_primary() else os.devnull)
    return TrainingRun(
        config=config,
        workdir=folder,
        tokenizer=tokenizer,
        optimizers=build_optimizers(config, schedule.damsm_steps),
        schedule=schedule,
        damsm_steps=schedule.damsm_steps,
        total_steps=schedule.total_steps,
        batches=batches,
        checkpoints=checkpoints,
        sampler=Sampler(build_networks(config, tokenizer.vocabulary)),
        evaluator=evaluator,
        sample=sample,
    )


def _sample(
    config: ConfigDict, pictures: CaptionedImages, tokenizer: Tokenizer
) -> tuple[dict[str, np.ndarray], np.ndarray, list[dict[str, Any]]]:
    """Captions and noise that all sheets of a run show, spread over the validation pictures."""
    rows = min(config.log.sample_grid_rows, len(pictures))
    names = sorted((pictures.metadata(index)["name"], index) for index in range(len(pictures)))
    # A step past an even spread: data in a regular order would show one kind alone.
    chosen = [names[(len(names) // rows * row + row) % len(names)][1] for row in range(rows)]
    ((batch, records),) = evaluation_batches(
        [pictures[index] for index in chosen],
        tokenizer,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        batch_size=rows,
    )
    return batch, sample_noise(config.seed, rows, config.generator.noise_dim), records


def _first_state(config: ConfigDict, folder: Workdir, tokenizer: Tokenizer) -> TrainState:
    """The state of a new run, with what trained weights the config names."""
    if config.train.checkpoint:
        state = warm_start_state(config)
    else:
        state = jax.jit(lambda: initial_state(config, tokenizer.vocabulary))()
        add_weights = (
            with_warm_start_encoders if warm_start_dir(config) else with_pretrained_weights
        )
        state = add_weights(state, config)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    folder.check_disk_space(size * (config.log.keep_checkpoints + 1))
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
