"""The training loop: both stages, with checkpoints, sample grids and scores along the way."""

import dataclasses
import functools
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from clu import metric_writers, parameter_overview
from ml_collections import ConfigDict

from ssagan_jax.checkpointing.best_checkpoint import read_best
from ssagan_jax.config import flatten
from ssagan_jax.config.schedule import Stage, batches_per_damsm_step
from ssagan_jax.data.pipeline import concatenate_batches
from ssagan_jax.distributed import broadcast_tree, is_primary, print_on_primary
from ssagan_jax.evaluation.scores import format_scores, read_scores
from ssagan_jax.steps.damsm_step import damsm_step
from ssagan_jax.steps.gan_step import gan_step
from ssagan_jax.steps.memory import format_memory
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.pmap import (
    BATCH_AXIS,
    PmapStep,
    crop_on_devices,
    replicate,
    replicated_shapes,
    unreplicate,
)
from ssagan_jax.steps.state import Batch, StepContext, TrainState, begin_gan_stage
from ssagan_jax.training.event_files import sort_before_now
from ssagan_jax.training.health import measure_health
from ssagan_jax.training.run import TrainingRun, open_run
from ssagan_jax.training.save_samples import write_sample_grid
from ssagan_jax.training.stage_profile import StageProfile
from ssagan_jax.training.step_monitor import StepMonitor
from ssagan_jax.training.stop_signals import StopSignals
from ssagan_jax.training.workdir_lock import WorkdirLock
from ssagan_jax.workdir import Workdir


def train(config: ConfigDict, workdir: str) -> None:
    """Trains both stages in a new work folder, or resumes training in an existing one.

    Exits with 128 plus the signal's number after a signal to stop.

    Raises:
      InputError: config, data, devices or folder cannot be used; raised before training starts.
      TrainingError: losses or gradients are not finite in too many steps in a row.
    """
    lock = WorkdirLock(Workdir(workdir).lock)
    try:
        run, state = open_run(config, workdir, lock)
        if int(state.step) < run.schedule.total_steps:
            state = _train_both_stages(run, state)
        _print_results(run, state)
    finally:
        lock.release()


def _train_both_stages(run: TrainingRun, state: TrainState) -> TrainState:
    """Runs the remaining steps of both stages, and saves a checkpoint at the end."""
    writer = _create_writer(run, state)
    networks = build_networks(run.config, run.tokenizer.vocabulary, BATCH_AXIS)
    context = StepContext(run.config, networks, run.optimizers)
    damsm_stage, gan_stage = run.schedule.damsm_stage, run.schedule.gan_stage
    state, stop_signal = replicate(state), 0
    crop = crop_on_devices(run.device_images, run.config.data.image_size)
    damsm_fns = [PmapStep(functools.partial(damsm_step, context), crop)]
    # In turns; the first one has MA-GP.
    every = run.config.loss.magp_every
    gan_fns = [PmapStep(functools.partial(gan_step, context), crop)]
    if every > 1:
        without = dataclasses.replace(context, with_magp=False)
        gan_fns += [PmapStep(functools.partial(gan_step, without), crop)] * (every - 1)
    try:
        with StopSignals() as stop:
            if int(state.step) < damsm_stage.last:
                state, stop_signal = _train_stage(
                    run, state, damsm_stage, damsm_fns, writer, stop, next_fns=gan_fns
                )
            if int(state.step) == gan_stage.first:
                state = replicate(begin_gan_stage(unreplicate(state), run.optimizers))
            if int(state.step) < gan_stage.last and not stop_signal:
                state, stop_signal = _train_stage(run, state, gan_stage, gan_fns, writer, stop)
        run.save(state)
    finally:
        run.wait()
    if not stop_signal:
        _write_scores(run, state, writer)
    writer.close()
    if stop_signal:
        print_on_primary(
            f"checkpoint saved at step {int(state.step)}; run the same command to resume"
        )
        if any(step_fn.is_compiling for step_fn in gan_fns):
            print_on_primary("waiting for the step of stage 2, which is being compiled")
        sys.exit(128 + stop_signal)
    return state


def _compile_in_background(
    run: TrainingRun, step_fns: list[PmapStep], state: TrainState, batch: Batch
) -> None:
    """Starts to compile the steps of stage 2 during stage 1, with a state and a batch of that.

    An error is raised when the step is needed, and then compiled once more. Python waits for the
    thread before it exits.
    """
    begun = jax.eval_shape(lambda state: begin_gan_stage(state, run.optimizers), state)
    shapes = replicated_shapes(begun)
    thread = ThreadPoolExecutor(1)
    for step_fn in dict.fromkeys(step_fns):
        thread.submit(step_fn.compile, shapes, batch)
    thread.shutdown(wait=False)


def _create_writer(run: TrainingRun, state: TrainState) -> metric_writers.MetricWriter:
    """The writer of TensorBoard's events, after describing the run there and on the terminal.

    It only logs in all processes but the primary one.
    """
    if is_primary():
        sort_before_now(run.workdir.path)
    writer = metric_writers.create_default_writer(
        str(run.workdir.path), just_logging=not is_primary()
    )
    for name in ("encoders", "generator", "discriminator"):
        parameter_overview.log_parameter_overview(getattr(state, name), msg=f"{name}:")
    writer.write_hparams(flatten(run.config))
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    writer.write_texts(int(state.step), {"devices": devices})
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    damsm_steps, total_steps = run.schedule.damsm_steps, run.schedule.total_steps
    print_on_primary(
        f"training in {run.workdir.path}: {damsm_steps} encoder steps, then "
        f"{total_steps - damsm_steps} GAN steps, on {jax.device_count()} "
        f"{jax.devices()[0].platform} device(s){processes}; now at step {int(state.step)}"
    )
    return writer


def _train_stage(
    run: TrainingRun,
    state: TrainState,
    stage: Stage,
    step_fns: list[PmapStep],
    writer: metric_writers.MetricWriter,
    stop: StopSignals,
    next_fns: list[PmapStep] | None = None,
) -> tuple[TrainState, int]:
    """Runs the remaining steps of a stage, or those until a signal requests a stop.

    Args:
      run: the run.
      state: at one of the stage's steps, replicated.
      stage: the stage.
      step_fns: step n of the run is `step_fns[n % len(step_fns)]`.
      writer: for the metrics.
      stop: asks for a stop.
      next_fns: of stage 2, to be compiled meanwhile.

    Returns:
      The state, and the signal, 0 for none.
    """
    log = run.config.log
    start = step = int(state.step)
    signal = 0
    batches = batches_per_damsm_step(run.config) if stage == run.schedule.damsm_stage else 1
    batch_size = batches * run.config.train.batch_size
    steps_per_epoch = max(1, run.schedule.steps_per_epoch // batches)
    monitor = StepMonitor(run.config, stage, step, batch_size, steps_per_epoch, writer)
    trace_dir = run.workdir.path if log.profile and is_primary() else None
    with monitor, StageProfile(trace_dir) as profile:
        while step < stage.last and not signal:
            parts = [next(run.batches) for _ in range(batches)]
            batch = concatenate_batches(parts)
            if step == start:
                compiled = [step_fn.compile(state, batch) for step_fn in dict.fromkeys(step_fns)]
                print_on_primary(format_memory(compiled[0]))
                if next_fns and jax.process_count() == 1:
                    _compile_in_background(run, next_fns, state, parts[0])
            step += 1
            step_fn = step_fns[step % len(step_fns)]
            with profile.step(step):
                state, metrics, largest_signal = step_fn(state, batch, stop.received)
            profile.after_step(metrics)
            monitor.after_step(step, metrics)
            at_end = step == stage.last
            in_gan_stage = stage == run.schedule.gan_stage
            if in_gan_stage and log.health_every and step % log.health_every == 0:
                with monitor.paused():
                    health = measure_health(run, state)
                    writer.write_scalars(step, health)
                    monitor.set_health(health)
            if in_gan_stage and (step % log.sample_grid_every == 0 or at_end):
                with monitor.paused():
                    _write_sample_grid(run, state, writer)
            if run.evaluator.is_due(step):
                with monitor.paused():
                    _write_scores(run, state, writer)
            if step % log.checkpoint_every == 0 and step < run.schedule.total_steps:
                with monitor.paused():
                    run.save(state)
            signal = stop.after_step(largest_signal)
        monitor.finish()
    return state, signal or stop.after_stage()


def _write_scores(run: TrainingRun, state: TrainState, writer: metric_writers.MetricWriter) -> None:
    scores = run.score(state)
    writer.write_scalars(int(state.step), {score.name: score.value for score in scores})


def _write_sample_grid(
    run: TrainingRun, state: TrainState, writer: metric_writers.MetricWriter
) -> None:
    if is_primary():
        images, masks = run.generate_samples(state)
        write_sample_grid(run.workdir, writer, int(state.step), run.fixed_samples, images, masks)


def _print_results(run: TrainingRun, state: TrainState) -> None:
    """Prints the final scores, which are computed now if an earlier process did not get to it."""
    step = run.schedule.total_steps
    saved = read_scores(run.workdir, "validation") if is_primary() else {}
    scores = list(saved.get(step, {}).values())
    best, wanted = read_best(run.workdir) if is_primary() else None, run.config.eval.best
    has_best = not wanted or bool(best and best.score.removesuffix("_torchvision") == wanted)
    known = has_best and run.evaluator.are_of_training(scores)
    if not broadcast_tree(np.asarray(known)):
        scores = run.score(state)
    print_on_primary(format_scores(scores))
    print_on_primary(f"trained {step} steps; sample grid: {run.workdir.sample_grid(step)}")
