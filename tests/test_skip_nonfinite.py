"""An update that would bring in NaN or infinity is left out, and the next good one is taken."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_steps import Averager, Run, assert_equal, differs
from trees import awake

from ssagan_jax.steps import pmap, state
from ssagan_jax.steps.skip_nonfinite import all_finite, replace_if_finite

OF = {
    "encoders": ("encoders", "encoders_opt"),
    "discriminator": ("discriminator", "discriminator_opt"),
    "generator": ("generator", "generator_opt", "batch_stats", "average"),
}


@pytest.fixture(scope="module")
def config(tiny_config):
    """Every statistic that a step moves: averages, and a trunk that follows each batch."""
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.generator.ssacn_blocks = 1
    config.train.ema_decay = 0.99
    config.image_encoder.statistics = "batch"
    return config


@pytest.fixture(scope="module")
def run(config, vocabulary):
    return Run(config, vocabulary, 2, False, image_encoder=Averager(pmap.BATCH_AXIS))


@pytest.fixture(scope="module")
def first(config, vocabulary, make_batch, run):
    """The state at the start of stage 2, in numpy."""
    current = jax.device_get(jax.jit(lambda: state.initial_state(config, vocabulary))())
    looker = jax.device_get(
        Averager().init(jax.random.key(0), make_batch(config)["image"] / 127.5 - 1)
    )
    encoders = awake(current.encoders, 0) | {"image": looker["params"]}
    current = current.replace(
        encoders=encoders,
        trunk=looker["trunk"],
        generator=awake(current.generator, 1),
        discriminator=awake(current.discriminator, 2),
    )
    return jax.device_get(state.begin_gan_stage(current, run.optimizers))


def spoiled(batch, value):
    """The batch in floats with one bad number, in a row of the second device."""
    image = batch["image"].astype(np.float32)
    image[-1, 3, 5, 1] = value
    return batch | {"image": image}


def assert_left_out(found, before, names):
    """The named networks have every bit that they had; of the others every part has moved."""
    for name, fields in OF.items():
        for field in fields:
            new, old = getattr(found, field), getattr(before, field)
            if name in names:
                assert_equal(new, old)
            else:
                assert differs(new, old), field
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert found.step == before.step + 1


def bad(metrics):
    return {name.removeprefix("bad/") for name, value in metrics.items() if value == 1}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_picture_leaves_out_what_it_reaches_and_the_next_batch_trains(
    run, first, config, make_batch, value
):
    good = make_batch(config) | {"image": make_batch(config)["image"].astype(np.float32)}
    after, metrics = run.take("gan", first, spoiled(good, value))
    # The generator sees captions alone.
    assert bad(metrics) == {"encoders", "discriminator"}
    assert np.isnan(metrics["damsm/words"]) and np.isnan(metrics["discriminator/adversarial"])
    assert_left_out(after, first, {"encoders", "discriminator"})
    # Painted pictures may move the trunk; the bad one may not have.
    assert differs(after.trunk, first.trunk)
    later, metrics = run.take("gan", after, good)
    assert not bad(metrics)
    assert_left_out(later, after, set())


def test_stage_1_leaves_out_a_bad_batch(run, first, config, make_batch):
    begun = first.replace(encoders_opt=jax.device_get(run.optimizers.damsm.init(first.encoders)))
    batch = make_batch(config)
    after, metrics = run.take("encoders", begun, spoiled(batch, np.nan))
    assert metrics["bad/encoders"] == 1
    assert_equal(after, begun.replace(step=begun.step + 1))
    # Stage 1 warms up from a rate of 0.
    moved, metrics = run.take("encoders", after, spoiled(batch, 0.0))
    moved, _ = run.take("encoders", moved, spoiled(batch, 0.0))
    assert metrics["bad/encoders"] == 0
    assert differs(moved.encoders, after.encoders) and differs(moved.trunk, after.trunk)


def test_fakes_that_are_not_finite_leave_statistics_and_averages(run, first, config, make_batch):
    generator = jax.tree.map(np.copy, first.generator)
    generator["to_rgb"]["bias"][0] = np.nan
    broken = first.replace(generator=generator)
    batch = spoiled(make_batch(config), 0.0)
    after, metrics = run.take("gan", broken, batch)
    assert bad(metrics) == {"discriminator", "generator"}
    for field in (*OF["discriminator"], *OF["generator"]):
        assert_equal(getattr(after, field), getattr(broken, field))
    # The trunk has seen the real pictures, and nothing of the painted ones.
    mean = batch["image"].mean((0, 1, 2)) / 127.5 - 1
    np.testing.assert_allclose(after.trunk["mean"], 0.1 * mean, atol=1e-6)


def test_either_of_two_discriminator_updates_counts(config, vocabulary, first, make_batch):
    """A power whose gradient is too large for float32 spoils the second update, MA-GP's, alone."""
    config = copy.deepcopy(config)
    config.discriminator.updates = 2
    config.loss.magp_weight = 1e38
    config.loss.magp_power = 40.0
    run = Run(config, vocabulary, 2, False, image_encoder=Averager(pmap.BATCH_AXIS))
    after, metrics = run.take("gan", first, spoiled(make_batch(config), 0.0))
    assert np.isfinite(metrics["discriminator/adversarial"])
    assert bad(metrics) == {"discriminator"}
    assert_left_out(after, first, {"discriminator"})


def test_an_absurd_learning_rate_never_enters_the_parameters(config, vocabulary, first, make_batch):
    config = copy.deepcopy(config)
    config.generator.learning_rate = 1e39
    run = Run(config, vocabulary, 2, False, image_encoder=Averager(pmap.BATCH_AXIS))
    after, metrics = run.take("gan", first, spoiled(make_batch(config), 0.0))
    assert bad(metrics) == {"generator"}
    assert_left_out(after, first, {"generator"})


def test_a_gradient_too_large_to_be_squared_is_left_out(first, run):
    """Adam's second moment would be infinite from then on, and every later update zero."""
    large = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e30), first.generator)
    _, opt = run.optimizers.generator.update(large, first.generator_opt)
    assert all_finite(large) and not all_finite(opt)
    kept, left_out = replace_if_finite(first, {"generator_opt": opt}, large)
    assert left_out == 1
    assert_equal(kept, first)


def test_frozen_encoders_are_no_network_of_the_step(config, vocabulary, first, make_batch):
    config = copy.deepcopy(config)
    config.train.encoders = "frozen"
    run = Run(config, vocabulary, 2, False, image_encoder=Averager(pmap.BATCH_AXIS))
    _, metrics = run.take("gan", first, spoiled(make_batch(config), 0.0))
    assert {name for name in metrics if name.startswith("bad/")} == {
        "bad/discriminator",
        "bad/generator",
    }
    assert not bad(metrics)
