"""A training run: everything that stays the same from its first step to its last."""

import dataclasses
import json
import logging
import os

import grain
import jax
import numpy as np
from absl import logging as absl_logging
from ml_collections import ConfigDict

from ssagan_jax.checkpointing.best_checkpoint import read_best
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.config import config_from_dict, warm_start_dir
from ssagan_jax.config.schedule import Schedule, batches_per_damsm_step, make_schedule
from ssagan_jax.config.validation import validate
from ssagan_jax.data.captions import with_mirrored
from ssagan_jax.data.datasets import open_datasets
from ssagan_jax.data.device_images import load_device_images
from ssagan_jax.data.pipeline import CaptionedImages, training_batches
from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.data.tokenizer import Tokenizer, learn_tokenizer, tokenizer_from_json
from ssagan_jax.distributed import (
    assert_equal_across_processes,
    broadcast_text,
    broadcast_tree,
    is_primary,
    raise_together,
)
from ssagan_jax.evaluation.evaluator import Evaluator
from ssagan_jax.evaluation.health_log import read_health
from ssagan_jax.evaluation.health_probe import HealthProbe
from ssagan_jax.evaluation.scores import Score, write_scores
from ssagan_jax.fixed_samples import FixedSamples
from ssagan_jax.inference.sampler import Sampler, generation_variables
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers
from ssagan_jax.steps.pmap import check_batch_size, unreplicate
from ssagan_jax.steps.state import TrainState, abstract_state, initial_state
from ssagan_jax.training.keep_best import keep_if_best
from ssagan_jax.training.pretrained_encoders import with_pretrained_sizes, with_pretrained_weights
from ssagan_jax.training.save_samples import choose_fixed_samples
from ssagan_jax.training.warm_start import (
    warm_start_state,
    warm_start_tokenizer,
    with_warm_start_encoders,
    with_warm_start_sizes,
)
from ssagan_jax.training.workdir_lock import WorkdirLock
from ssagan_jax.workdir import Workdir, WorkdirError


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What stays the same from a run's first step to its last.

    Attributes:
      batches: this process's rows of the training batches.
      device_images: all training images u8[N, H, W, 3], of which the batches then have the crops
        only; None if images are cropped here.
      sampler: generates the images of the sample grids, on one device.
      evaluator: computes scores, on all devices.
      health_probe: measures signs of overfitting and of collapse, on all devices.
      checkpoints: open for writing; None in all processes but the primary one.
      fixed_samples: captions, noise and real images of all sample grids; likewise.
      lock: of the work folder; the primary process holds it.
    """

    config: ConfigDict
    workdir: Workdir
    tokenizer: Tokenizer
    schedule: Schedule
    optimizers: Optimizers
    batches: grain.DatasetIterator
    device_images: np.ndarray | None
    sampler: Sampler
    evaluator: Evaluator
    health_probe: HealthProbe
    checkpoints: Checkpoints | None
    fixed_samples: FixedSamples | None
    lock: WorkdirLock

    def score(self, state: TrainState) -> list[Score]:
        """Scores a state, and appends the scores to eval/metrics.jsonl."""
        scores = self.evaluator(state)
        if is_primary():
            write_scores(self.workdir, scores)
            best = self.config.eval.best
            keep_if_best(self.workdir, best, scores, state, self.batches, self.tokenizer.digest)
        return scores

    def generate_samples(self, state: TrainState) -> tuple[np.ndarray, list[np.ndarray]]:
        """Images u8[R, S, S, 3] and fusion masks f32[R, S, S, 1] of the fixed samples."""
        max_words = self.config.data.max_words
        encoded = [self.tokenizer.encode(text, max_words) for text in self.fixed_samples.captions]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        variables = generation_variables(unreplicate(state))
        sentences = self.sampler.sentences(variables, tokens, mask)
        return self.sampler.images_and_masks(variables, sentences, self.fixed_samples.noise)

    def save(self, state: TrainState) -> None:
        """Starts to write a checkpoint; raises WorkdirError if the lock was lost."""
        if self.checkpoints:
            self.lock.check()
            self.checkpoints.save(state, self.batches)

    def wait(self) -> None:
        """Waits until the checkpoints are on disk."""
        if self.checkpoints:
            self.checkpoints.wait()


def open_run(config: ConfigDict, path: str, lock: WorkdirLock) -> tuple[TrainingRun, TrainState]:
    """Starts a run in a new work folder, or resumes the one that the folder holds.

    Takes the folder's lock in the primary process; the caller releases it. The primary process
    alone reads and writes the folder, and broadcasts what the others need. Nothing is written
    before every check has passed.

    Raises:
      InputError: config, data, devices or folder cannot be used.
    """
    validate(config)
    check_batch_size(config)
    workdir = Workdir(path)
    config = _broadcast_config(config, workdir, lock)
    datasets = raise_together(lambda: open_datasets(config))
    tokenizer = tokenizer_from_json(
        broadcast_text(lambda: _open_tokenizer(config, workdir, datasets["train"]).to_json())
    )
    schedule = make_schedule(config, len(datasets["train"]))
    device_images = raise_together(
        lambda: load_device_images(datasets["train"], config.data.device_cache_mb)
    )
    crops_only = device_images is not None
    batches = raise_together(
        lambda: _training_batches(config, datasets["train"], tokenizer, schedule, crops_only)
    )
    evaluator = raise_together(lambda: Evaluator(config, datasets, tokenizer, schedule))
    raise_together(evaluator.check_best)
    if jax.process_count() > 1:
        name = "images, captions or Inception weights"
        assert_equal_across_processes(name, evaluator.digest())
    state, checkpoints, fixed_samples = raise_together(
        lambda: _open_workdir(
            config, workdir, lock, tokenizer, batches, schedule, datasets["validation"]
        )
    )
    raise_together(lambda: _write_dataset_counts(workdir, datasets))
    _log_to_file(workdir.log if is_primary() else os.devnull)
    run = TrainingRun(
        config=config,
        workdir=workdir,
        tokenizer=tokenizer,
        schedule=schedule,
        optimizers=build_optimizers(config, schedule.damsm_steps),
        batches=batches,
        device_images=device_images,
        sampler=Sampler(build_networks(config, tokenizer.vocabulary)),
        evaluator=evaluator,
        health_probe=HealthProbe(evaluator),
        checkpoints=checkpoints,
        fixed_samples=fixed_samples,
        lock=lock,
    )
    position = broadcast_text(lambda: json.dumps(batches.get_state()))
    if not is_primary():
        batches.set_state(json.loads(position))
    return run, broadcast_tree(state)


def _broadcast_config(config: ConfigDict, workdir: Workdir, lock: WorkdirLock) -> ConfigDict:
    """The config with the sizes of all pretrained networks, if the work folder accepts it."""

    def resolve() -> str:
        if config.train.checkpoint:
            resumed = workdir if workdir.checkpoint_steps() else None
            resolved = with_warm_start_sizes(config, resumed)
        else:
            resolved = with_pretrained_sizes(config)
        workdir.check_config(resolved)
        if workdir.path.is_dir():  # A new folder is made, and locked, after all checks.
            lock.acquire()
        return json.dumps(resolved.to_dict())

    return config_from_dict(json.loads(broadcast_text(resolve)))


def _open_tokenizer(config: ConfigDict, workdir: Workdir, dataset: CaptionedImages) -> Tokenizer:
    """The tokenizer of the work folder, or else the one that the config describes."""
    if workdir.has_tokenizer():
        return workdir.tokenizer()
    records = map(dataset.metadata, range(len(dataset)))
    captions = (caption for record in records for caption in record["captions"])
    if config.data.random_flip:
        captions = with_mirrored(captions)
    if warm_start_dir(config):
        return warm_start_tokenizer(config, captions)
    if config.tokenizer.pretrained:
        return pretrained_tokenizer(config.tokenizer.pretrained)
    return learn_tokenizer(config.tokenizer.kind, captions, config.tokenizer.vocab_size)


def _write_dataset_counts(workdir: Workdir, datasets: dict[str, CaptionedImages]) -> None:
    """Counts images and captions, once in a run."""
    if not is_primary() or workdir.dataset_counts():
        return
    counts = {}
    for split, dataset in datasets.items():
        captions = (len(dataset.metadata(index)["captions"]) for index in range(len(dataset)))
        counts[split] = {"images": len(dataset), "captions": sum(captions)}
    workdir.write_dataset_counts(counts)


def _training_batches(
    config: ConfigDict,
    dataset: CaptionedImages,
    tokenizer: Tokenizer,
    schedule: Schedule,
    crops_only: bool,
) -> grain.DatasetIterator:
    return training_batches(
        dataset,
        tokenizer,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        random_flip=config.data.random_flip,
        batch_size=config.train.batch_size,
        large_batches=(schedule.damsm_steps, batches_per_damsm_step(config)),
        seed=config.seed,
        shard=(jax.process_index(), jax.process_count()),
        crops_only=crops_only,
        num_captions=config.loss.contrastive_captions,
    )


def _open_workdir(
    config: ConfigDict,
    workdir: Workdir,
    lock: WorkdirLock,
    tokenizer: Tokenizer,
    batches: grain.DatasetIterator,
    schedule: Schedule,
    validation: CaptionedImages,
) -> tuple[TrainState, Checkpoints | None, FixedSamples | None]:
    """The state to train from, new or of the latest checkpoint, and what the folder keeps.

    Moves `batches` to the checkpoint's position. In all processes but the primary one the state is
    zeros, to receive the primary one's.
    """
    template = abstract_state(config, tokenizer)
    if not is_primary():
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template), None, None
    resuming = bool(workdir.checkpoint_steps())
    if not resuming:
        state = _new_state(config, tokenizer)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        # One more, also of the best: the old checkpoint is deleted after the new one is written.
        kept = config.log.keep_checkpoints + 1 + 2 * bool(config.eval.best)
        workdir.check_disk_space(size * kept)
        fixed_samples = choose_fixed_samples(config, validation, tokenizer)
    lock.acquire()
    if not resuming and workdir.checkpoint_steps():
        raise WorkdirError(f"{workdir.path}: another training has just used this folder; try again")
    checkpoints = Checkpoints(workdir.checkpoints, config.log.keep_checkpoints, tokenizer.digest)
    if resuming:
        state = checkpoints.restore(template, batches)
        schedule.check_can_resume(int(state.step), workdir.schedule())
        # Files that are needed later are refused now.
        read_best(workdir), read_health(workdir)
        fixed_samples = workdir.fixed_samples()
    workdir.write_config(config)
    workdir.write_tokenizer(tokenizer)
    workdir.write_schedule(schedule)
    if not resuming:
        workdir.write_fixed_samples(fixed_samples)
    return state, checkpoints, fixed_samples


def _new_state(config: ConfigDict, tokenizer: Tokenizer) -> TrainState:
    """The state at step 0, with the trained weights that the config names."""
    if config.train.checkpoint:
        return warm_start_state(config)
    state = jax.jit(lambda: initial_state(config, tokenizer.vocabulary))()
    if warm_start_dir(config):
        return with_warm_start_encoders(state, config)
    return with_pretrained_weights(state, config)


def _log_to_file(path: str | os.PathLike[str]) -> None:
    """Sends the libraries' log messages to a file; the terminal keeps the progress bar."""
    logging.raiseExceptions = False  # A full disk must not print a traceback per message.
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = absl_logging.get_absl_logger()
    logger.handlers = [handler]
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.INFO)
