"""The training job: both stages, with checkpoints, sheets and scalars on the way."""

import dataclasses
import logging
import sys
from typing import Any

import grain
import jax
import numpy as np
from absl import logging as absl_logging
from clu import metric_writers, parameter_overview, periodic_actions
from ml_collections import ConfigDict

from ssagan_jax import evaluate
from ssagan_jax.configuration import ConfigError, differences, flat, steps_of, validate
from ssagan_jax.data.pipeline import Pictures, evaluation_batches, training_batches
from ssagan_jax.data.sources import open_pictures
from ssagan_jax.data.tokenizer import Tokenizer, learn_tokenizer, pretrained_tokenizer
from ssagan_jax.pace import Pace
from ssagan_jax.painting import Painter, grey, sheet, sheet_noise
from ssagan_jax.progress import Bar, StopSignals
from ssagan_jax.trained import Trained, open_trained, state_shapes
from ssagan_jax.training.checkpoints import Checkpoints
from ssagan_jax.training.parallel import AXIS, Step, check_batch_size, parallel, replicated
from ssagan_jax.training.pretrained import with_pretrained_sizes, with_pretrained_weights
from ssagan_jax.training.state import (
    Optimizers,
    TrainState,
    begin_gan_stage,
    build_networks,
    build_optimizers,
    initial_state,
)
from ssagan_jax.training.steps import Steps
from ssagan_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from a run's first step to its last.

    Attributes:
      damsm_steps: steps of stage 1.
      total_steps: steps of both stages.
      painter: for sheets and scores, on one device.
      sample: the fixed captions of the sheets: a batch, its noise and its records.
    """

    config: ConfigDict
    workdir: Workdir
    pictures: dict[str, Pictures]
    tokenizer: Tokenizer
    optimizers: Optimizers
    damsm_steps: int
    total_steps: int
    batches: grain.DatasetIterator
    checkpoints: Checkpoints
    painter: Painter
    sample: tuple[dict[str, np.ndarray], np.ndarray, list[dict[str, Any]]]

    def trained(self, state: TrainState) -> Trained:
        """The model as it stands."""
        return Trained(self.workdir, self.config, self.tokenizer, state, self.painter)


def train(config: ConfigDict, workdir: str) -> None:
    """Trains both stages, from where the work folder stands to the end.

    Raises:
      InputError: config, data, devices or folder cannot serve; before training starts.
    """
    validate(config)
    check_batch_size(config.train.batch_size)
    config = with_pretrained_sizes(config)
    folder = Workdir(workdir)
    folder.check_config(config)
    pictures = open_pictures(config)
    tokenizer = _tokenizer(config, folder, pictures["train"])
    # Nothing is written before all that could be refused was looked at.
    state = None if folder.checkpoint_steps() else _first_state(config, folder, tokenizer)
    run = _prepare(config, folder, pictures, tokenizer)
    if state is None:
        state = run.checkpoints.restore(state_shapes(config, tokenizer), run.batches)
    if int(state.step) < run.total_steps:
        state = _train(run, state)
    _tell_results(run, state)


def _tokenizer(config: ConfigDict, folder: Workdir, pictures: Pictures) -> Tokenizer:
    """The folder's tokenizer, or else the one that the config asks for."""
    if folder.has_tokenizer():
        return folder.tokenizer()
    if config.damsm.checkpoint:
        return Workdir(config.damsm.checkpoint).tokenizer()
    if config.tokenizer.pretrained:
        return pretrained_tokenizer(config.tokenizer.pretrained)
    texts = map(pictures.text, range(len(pictures)))
    captions = (caption for text in texts for caption in text["captions"])
    return learn_tokenizer(config.tokenizer.kind, captions, config.tokenizer.vocab_size)


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
    )
    steps_per_epoch = len(pictures["train"]) // config.train.batch_size
    damsm_steps = 0 if config.damsm.checkpoint else steps_of(config.damsm, steps_per_epoch)
    sample = _sample(config, pictures["validation"], tokenizer)
    folder.write_config(config)
    _log_to(folder)
    folder.write_tokenizer(tokenizer)
    return Run(
        config=config,
        workdir=folder,
        pictures=pictures,
        tokenizer=tokenizer,
        optimizers=build_optimizers(config, damsm_steps),
        damsm_steps=damsm_steps,
        total_steps=damsm_steps + steps_of(config.train, steps_per_epoch),
        batches=batches,
        checkpoints=Checkpoints(folder.checkpoints, config.log.keep_checkpoints, tokenizer.digest),
        painter=Painter(build_networks(config, tokenizer.vocabulary)),
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
    state = jax.jit(lambda: initial_state(config, tokenizer.vocabulary))()
    state = with_pretrained_weights(state, config)
    if config.damsm.checkpoint:
        state = _with_trained_encoders(state, config)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    folder.check_room(size * (config.log.keep_checkpoints + 1))
    return state


def _with_trained_encoders(state: TrainState, config: ConfigDict) -> TrainState:
    """The state with the encoders of the run that `damsm.checkpoint` names."""
    donor = open_trained(config.damsm.checkpoint)
    for section in ("text_encoder", "image_encoder", "tokenizer"):
        if faults := differences(
            ConfigDict({section: donor.config[section]}),
            ConfigDict({section: config[section]}),
        ):
            raise ConfigError(
                f"config.damsm.checkpoint={config.damsm.checkpoint!r}: its encoders differ: "
                + "; ".join(faults)
            )
    return state.replace(encoders=donor.state.encoders, trunk=donor.state.trunk)


def _train(run: Run, state: TrainState) -> TrainState:
    """Takes the steps that are left, then leaves a checkpoint, a sheet and scores."""
    writer = metric_writers.create_default_writer(str(run.workdir.path))
    for name in ("encoders", "generator", "discriminator"):
        parameter_overview.log_parameter_overview(getattr(state, name), msg=f"{name}:")
    writer.write_hparams(flat(run.config))
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    writer.write_texts(int(state.step), {"devices": devices})
    networks = build_networks(run.config, run.tokenizer.vocabulary, AXIS)
    steps = Steps(run.config, networks, run.optimizers, AXIS)
    print(
        f"training in {run.workdir.path}: {run.damsm_steps} encoder steps, then "
        f"{run.total_steps - run.damsm_steps} GAN steps, on {jax.local_device_count()} "
        f"{jax.local_devices()[0].platform} device(s); now at step {int(state.step)}",
        flush=True,
    )
    state = replicated(state)
    with StopSignals() as stop:
        if int(state.step) < run.damsm_steps:
            state = _stage(run, state, parallel(steps.encoders), "encoders", writer, stop)
        if int(state.step) == run.damsm_steps:
            state = replicated(begin_gan_stage(state, run.optimizers))
        if not stop.signal:
            state = _stage(run, state, parallel(steps.gan), "gan", writer, stop)
    run.checkpoints.save(state, run.batches)
    run.checkpoints.wait()
    if stop.signal:
        writer.close()
        print(f"stopped at step {int(state.step)}, saved; the same command goes on from there")
        sys.exit(128 + stop.signal)
    scores = evaluate.score(run.trained(state), run.pictures["validation"])
    writer.write_scalars(run.total_steps, scores)
    writer.close()
    return state


def _stage(
    run: Run,
    state: TrainState,
    step_fn: Step,
    name: str,
    writer: metric_writers.MetricWriter,
    stop: StopSignals,
) -> TrainState:
    """Takes one stage's steps, until it ends or is asked to stop."""
    log, step = run.config.log, int(state.step)
    first, last = (0, run.damsm_steps) if name == "encoders" else (run.damsm_steps, run.total_steps)
    batch_size = run.config.train.batch_size
    pace = Pace(first, batch_size, steps_per_epoch=len(run.pictures["train"]) // batch_size)
    hooks = []
    if log.profile:
        hooks.append(
            periodic_actions.Profile(
                logdir=str(run.workdir.path), first_profile=step + 10, profile_duration_ms=None
            )
        )
    with Bar(name, first, step, last, batch_size) as bar:
        while step < last and not stop.signal:
            previous = bar.metrics
            state, metrics = step_fn(state, next(run.batches))
            step += 1
            # The step before has ended by now, so reading it does not make the device wait.
            if (step - 1) % log.scalars_every == 0:
                pace.write(writer, step - 1, previous)
            bar.advance(metrics)
            pace.advance(step, metrics)
            for hook in hooks:
                hook(step)
            if name == "gan" and (step % log.sheet_every == 0 or step == last):
                with pace.paused():
                    _write_sheet(run, state, writer)
            if step % log.checkpoint_every == 0 and step < last:
                with pace.paused():
                    run.checkpoints.save(state, run.batches)
        pace.write(writer, step, bar.metrics)
    return state


def _write_sheet(run: Run, state: TrainState, writer: metric_writers.MetricWriter) -> None:
    """Caption, real picture, generated picture and last mask, as a PNG and for TensorBoard."""
    batch, noise, records = run.sample
    images, masks = run.painter(state, batch["tokens"], batch["mask"], noise)
    captions = [record["captions"][0] for record in records]
    last = [grey(mask) for mask in masks[-1]] if masks else [image * 0 for image in images]
    rows = list(zip(captions, zip(batch["image"], images, last, strict=True), strict=True))
    step = int(state.step)
    run.workdir.samples.mkdir(exist_ok=True)
    picture = sheet(rows, ("real", "generated", "mask"))
    picture.save(run.workdir.sheet(step))
    writer.write_images(step, {"sheet": np.asarray(picture)[None]})
    writer.write_images(step, {f"masks/{mask}": part for mask, part in enumerate(masks)})
    writer.write_texts(step, {"captions": "\n\n".join(captions)})


def _tell_results(run: Run, state: TrainState) -> None:
    """Prints the scores, computed now if an earlier end kept them from it, and the sheet."""
    scores = evaluate.saved_scores(run.workdir, run.total_steps)
    if not scores:
        scores = evaluate.score(run.trained(state), run.pictures["validation"])
    if scores:
        print(evaluate.described(scores))
    print(f"trained {run.total_steps} steps; sample sheet: {run.workdir.sheet(run.total_steps)}")


def _log_to(workdir: Workdir) -> None:
    """The libraries' messages go to the folder's log; the terminal keeps the progress bar."""
    handler = logging.FileHandler(workdir.log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = absl_logging.get_absl_logger()
    logger.handlers = [handler]
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.INFO)
