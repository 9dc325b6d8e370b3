"""The training job: both stages, with checkpoints, sheets and scalars on the way."""

import sys

import jax
import numpy as np
from clu import metric_writers, parameter_overview, periodic_actions
from ml_collections import ConfigDict

from ssagan_jax.configuration import flat
from ssagan_jax.evaluation.scores import described, read_scores
from ssagan_jax.pace import Pace
from ssagan_jax.painting import grey, sheet
from ssagan_jax.progress import Bar, StopSignals
from ssagan_jax.run import Run, open_run
from ssagan_jax.training.parallel import AXIS, Step, parallel, replicated
from ssagan_jax.training.state import TrainState, begin_gan_stage, build_networks
from ssagan_jax.training.steps import Steps


def train(config: ConfigDict, workdir: str) -> None:
    """Trains both stages, from where the work folder stands to the end.

    Raises:
      InputError: config, data, devices or folder cannot serve; before training starts.
    """
    run, state = open_run(config, workdir)
    if int(state.step) < run.total_steps:
        state = _train(run, state)
    _tell_results(run, state)


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
    _write_scores(run, state, writer)
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
    pace = Pace(first, batch_size, run.evaluator.stages.per_epoch)
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
            if name == "gan" and run.evaluator.is_due(step):
                with pace.paused():
                    _write_scores(run, state, writer)
            if step % log.checkpoint_every == 0 and step < last:
                with pace.paused():
                    run.checkpoints.save(state, run.batches)
        pace.write(writer, step, bar.metrics)
    return state


def _write_scores(run: Run, state: TrainState, writer: metric_writers.MetricWriter) -> None:
    scores = run.score(state)
    writer.write_scalars(int(state.step), {score.name: score.value for score in scores})


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
    scores = read_scores(run.workdir, run.total_steps, "validation") or run.score(state)
    print(described(scores))
    print(f"trained {run.total_steps} steps; sample sheet: {run.workdir.sheet(run.total_steps)}")
