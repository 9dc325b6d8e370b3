"""The training job: both stages, with checkpoints, sheets and scalars on the way."""

import functools
import sys

import jax
import numpy as np
from clu import metric_writers, parameter_overview, periodic_actions
from ml_collections import ConfigDict

from ssagan_jax.config import flatten
from ssagan_jax.distributed import broadcast_tree, is_primary, print_on_primary
from ssagan_jax.evaluation.scores import format_scores, read_scores
from ssagan_jax.inference.image_grid import draw_image_grid, mask_to_rgb
from ssagan_jax.steps.damsm_step import damsm_step
from ssagan_jax.steps.gan_step import gan_step
from ssagan_jax.steps.memory import format_memory
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.pmap import BATCH_AXIS, PmapStep, replicate, unreplicate
from ssagan_jax.steps.state import StepContext, TrainState, begin_gan_stage
from ssagan_jax.training.nonfinite_limit import NonFiniteLimit
from ssagan_jax.training.progress_bar import ProgressBar
from ssagan_jax.training.run import TrainingRun, open_run
from ssagan_jax.training.stop_signals import StopSignals
from ssagan_jax.training.throughput import ThroughputMeter


def train(config: ConfigDict, workdir: str) -> None:
    """Trains both stages, from where the work folder stands to the end.

    Raises:
      InputError: config, data, devices or folder cannot serve, before training starts; or its
        losses are no longer finite.
    """
    run, state = open_run(config, workdir)
    if int(state.step) < run.total_steps:
        state = _train(run, state)
    _tell_results(run, state)


def _train(run: TrainingRun, state: TrainState) -> TrainState:
    """Takes the steps that are left, then leaves a checkpoint, a sheet and scores."""
    writer = _writer(run, state)
    networks = build_networks(run.config, run.tokenizer.vocabulary, BATCH_AXIS)
    context = StepContext(run.config, networks, run.optimizers)
    state, asked = replicate(state), 0
    try:
        with StopSignals() as stop:
            if int(state.step) < run.damsm_steps:
                step_fn = PmapStep(functools.partial(damsm_step, context))
                state, asked = _stage(run, state, step_fn, "encoders", writer, stop)
            if int(state.step) == run.damsm_steps:
                state = replicate(begin_gan_stage(unreplicate(state), run.optimizers))
            if not asked:
                step_fn = PmapStep(functools.partial(gan_step, context))
                state, asked = _stage(run, state, step_fn, "gan", writer, stop)
        run.save(state)
    finally:
        run.wait()
    if asked:
        writer.close()
        print_on_primary(
            f"stopped at step {int(state.step)}, saved; the same command goes on from there"
        )
        sys.exit(128 + asked)
    _write_scores(run, state, writer)
    writer.close()
    return state


def _writer(run: TrainingRun, state: TrainState) -> metric_writers.MetricWriter:
    """The writer of scalars and pictures, which tells about the run; empty but in one process."""
    writer = metric_writers.create_default_writer(
        str(run.workdir.path), just_logging=not is_primary()
    )
    for name in ("encoders", "generator", "discriminator"):
        parameter_overview.log_parameter_overview(getattr(state, name), msg=f"{name}:")
    writer.write_hparams(flatten(run.config))
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    writer.write_texts(int(state.step), {"devices": devices})
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    print_on_primary(
        f"training in {run.workdir.path}: {run.damsm_steps} encoder steps, then "
        f"{run.total_steps - run.damsm_steps} GAN steps, on {jax.device_count()} "
        f"{jax.devices()[0].platform} device(s){processes}; now at step {int(state.step)}"
    )
    return writer


def _stage(
    run: TrainingRun,
    state: TrainState,
    step_fn: PmapStep,
    name: str,
    writer: metric_writers.MetricWriter,
    stop: StopSignals,
) -> tuple[TrainState, int]:
    """Takes one stage's steps, until it ends or is asked to stop by a signal, which it returns."""
    log, step = run.config.log, int(state.step)
    asked, note = 0, None
    first, last = (0, run.damsm_steps) if name == "encoders" else (run.damsm_steps, run.total_steps)
    batch_size = run.config.train.batch_size
    pace = ThroughputMeter(first, batch_size, run.schedule.steps_per_epoch)
    nonfinite_limit = NonFiniteLimit(run.config.train.max_nonfinite_steps)
    hooks = []
    if log.profile:
        hooks.append(
            periodic_actions.Profile(
                logdir=str(run.workdir.path), first_profile=step + 10, profile_duration_ms=None
            )
        )
    with ProgressBar(name, first, step, last, batch_size) as bar:
        while step < last and not asked:
            previous, earlier, batch = bar.metrics, note, next(run.batches)
            if previous is None:
                print_on_primary(format_memory(step_fn.compile(state, batch)))
            state, metrics, note = step_fn(state, batch, stop.signal)
            step += 1
            # The step before has ended by now, so reading it does not make the device wait.
            nonfinite_limit.check(step - 1, previous)
            if (step - 1) % log.scalars_every == 0:
                pace.write(writer, step - 1, previous)
            bar.advance(metrics)
            pace.advance(step, metrics)
            for hook in hooks:
                hook(step)
            if name == "gan" and (step % log.sample_grid_every == 0 or step == last):
                with pace.paused():
                    _write_sheet(run, state, writer)
            if name == "gan" and run.evaluator.is_due(step):
                with pace.paused():
                    _write_scores(run, state, writer)
            if step % log.checkpoint_every == 0 and step < last:
                with pace.paused():
                    run.save(state)
            asked = stop.should_stop(earlier)
        nonfinite_limit.check(step, bar.metrics)
        pace.write(writer, step, bar.metrics)
    return state, asked or stop.should_stop(note)


def _write_scores(run: TrainingRun, state: TrainState, writer: metric_writers.MetricWriter) -> None:
    scores = run.score(state)
    writer.write_scalars(int(state.step), {score.name: score.value for score in scores})


def _write_sheet(run: TrainingRun, state: TrainState, writer: metric_writers.MetricWriter) -> None:
    """Caption, real picture, generated picture and last mask, as a PNG and for TensorBoard."""
    if not is_primary():
        return
    batch, noise, records = run.sample
    images, masks = run.sampler(unreplicate(state), batch["tokens"], batch["mask"], noise)
    captions = [record["captions"][0] for record in records]
    last = [mask_to_rgb(mask) for mask in masks[-1]] if masks else [image * 0 for image in images]
    rows = list(zip(captions, zip(batch["image"], images, last, strict=True), strict=True))
    step = int(state.step)
    run.workdir.samples.mkdir(exist_ok=True)
    picture = draw_image_grid(rows, ("real", "generated", "mask"))
    partial = run.workdir.sample_grid(step).with_suffix(".part")
    picture.save(partial, format="PNG")
    partial.replace(run.workdir.sample_grid(step))
    writer.write_images(step, {"sheet": np.asarray(picture)[None]})
    writer.write_images(step, {f"masks/{mask}": part for mask, part in enumerate(masks)})
    writer.write_texts(step, {"captions": "\n\n".join(captions)})


def _tell_results(run: TrainingRun, state: TrainState) -> None:
    """Prints the scores, computed now if an earlier end kept them from it, and the sheet."""
    step = run.total_steps
    scores = read_scores(run.workdir, "validation").get(step, {}) if is_primary() else {}
    scores = list(scores.values())
    if not broadcast_tree(np.asarray(bool(scores))):
        scores = run.score(state)
    print_on_primary(format_scores(scores))
    print_on_primary(
        f"trained {run.total_steps} steps; sample sheet: {run.workdir.sample_grid(run.total_steps)}"
    )
