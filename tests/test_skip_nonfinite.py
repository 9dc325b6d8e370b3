"""An update with NaN or infinity is skipped, and the next finite one is applied."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_steps import Averager, Run, assert_equal, differs, start_of_gan_stage

from ssagan_jax.steps import pmap
from ssagan_jax.steps.skip_nonfinite import replace_if_finite

FIELDS = {
    "encoders": ("encoders", "encoders_opt"),
    "discriminator": ("discriminator", "discriminator_opt"),
    "generator": ("generator", "generator_opt", "batch_stats", "ema"),
}


@pytest.fixture(scope="module")
def config(tiny_config):
    """All statistics that a step can update: EMA, and a trunk that follows each batch."""
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.generator.ssacn_blocks = 1
    config.train.ema_decay = 0.99
    config.image_encoder.statistics = "batch"
    return config


def run_with(config, vocabulary, **values):
    """Both steps on two devices, with other config values by dotted key."""
    config = copy.deepcopy(config)
    config.update_from_flattened_dict(values)
    return Run(config, vocabulary, 2, False, image_encoder=Averager(pmap.BATCH_AXIS))


@pytest.fixture(scope="module")
def run(config, vocabulary):
    return run_with(config, vocabulary)


@pytest.fixture(scope="module")
def first(config, vocabulary, make_batch, run):
    """The state at the start of stage 2, in numpy."""
    begun = start_of_gan_stage(config, vocabulary)
    variables = jax.device_get(
        Averager().init(jax.random.key(0), make_batch(config)["image"] / 127.5 - 1)
    )
    encoders = begun.encoders | {"image": variables["params"]}
    return begun.replace(
        encoders=encoders,
        encoders_opt=jax.device_get(run.optimizers.encoders.init(encoders)),
        trunk=variables["trunk"],
    )


def corrupted(batch, value):
    """The batch in floats with one pixel replaced, in a row of the second device."""
    image = batch["image"].astype(np.float32)
    image[-1, 3, 5, 1] = value
    return batch | {"image": image}


def all_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def assert_skipped(found, before, names):
    """The named networks are the same to the bit; all fields of the others have changed."""
    for name, fields in FIELDS.items():
        for field in fields:
            new, old = getattr(found, field), getattr(before, field)
            if name in names:
                assert_equal(new, old)
            else:
                assert differs(new, old), field
    assert all_finite(found)
    assert found.step == before.step + 1


def nonfinite(metrics):
    return {name.removeprefix("nonfinite/") for name, value in metrics.items() if value == 1}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_nonfinite_pixel_skips_the_networks_it_reaches_and_the_next_batch_trains(
    run, first, config, make_batch, value
):
    good = make_batch(config) | {"image": make_batch(config)["image"].astype(np.float32)}
    after, metrics = run.take("gan", first, corrupted(good, value))
    # The generator gets the captions only.
    assert nonfinite(metrics) == {"encoders", "discriminator"}
    assert np.isnan(metrics["damsm/words"]) and np.isnan(metrics["discriminator/adversarial"])
    assert_skipped(after, first, {"encoders", "discriminator"})
    # Generated images may update the trunk; the corrupted one may not.
    assert differs(after.trunk, first.trunk)
    later, metrics = run.take("gan", after, good)
    assert not nonfinite(metrics)
    assert_skipped(later, after, set())


def test_stage_1_skips_a_nonfinite_batch(run, first, config, make_batch):
    begun = first.replace(encoders_opt=jax.device_get(run.optimizers.damsm.init(first.encoders)))
    batch = make_batch(config)
    after, metrics = run.take("damsm", begun, corrupted(batch, np.nan))
    assert metrics["nonfinite/encoders"] == 1
    assert_equal(after, begun.replace(step=begun.step + 1))
    # The learning rate of stage 1 warms up from 0.
    moved, metrics = run.take("damsm", after, corrupted(batch, 0.0))
    moved, _ = run.take("damsm", moved, corrupted(batch, 0.0))
    assert metrics["nonfinite/encoders"] == 0
    assert differs(moved.encoders, after.encoders) and differs(moved.trunk, after.trunk)


def test_nonfinite_generated_images_leave_statistics_and_ema(run, first, config, make_batch):
    generator = jax.tree.map(np.copy, first.generator)
    generator["to_rgb"]["bias"][0] = np.nan
    broken = first.replace(generator=generator)
    batch = corrupted(make_batch(config), 0.0)
    after, metrics = run.take("gan", broken, batch)
    assert nonfinite(metrics) == {"discriminator", "generator"}
    for field in (*FIELDS["discriminator"], *FIELDS["generator"]):
        assert_equal(getattr(after, field), getattr(broken, field))
    # The trunk was updated by the real images and not by the generated ones.
    mean = batch["image"].mean((0, 1, 2)) / 127.5 - 1
    np.testing.assert_allclose(after.trunk["mean"], 0.1 * mean, atol=1e-6)


def test_either_of_two_discriminator_updates_counts(config, vocabulary, first, make_batch):
    """With this weight squares of the gradient of MA-GP, the second update, overflow float32."""
    values = {"discriminator.updates": 2, "loss.magp_weight": 1e30}
    run = run_with(config, vocabulary, **values)
    after, metrics = run.take("gan", first, corrupted(make_batch(config), 0.0))
    assert np.isfinite(metrics["discriminator/adversarial"])
    assert nonfinite(metrics) == {"discriminator"}
    assert_skipped(after, first, {"discriminator"})


def test_an_overflowing_learning_rate_never_enters_the_parameters(
    config, vocabulary, first, make_batch
):
    run = run_with(config, vocabulary, **{"generator.learning_rate": 1e39})
    after, metrics = run.take("gan", first, corrupted(make_batch(config), 0.0))
    assert nonfinite(metrics) == {"generator"}
    assert_skipped(after, first, {"generator"})


def test_a_gradient_too_large_to_be_squared_is_skipped(first, run):
    """Adam's second moment would stay infinite, and all later updates would be zero."""
    large = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e30), first.generator)
    update, opt = run.optimizers.generator.update(large, first.generator_opt)
    assert all_finite((large, update)) and not all_finite(opt)
    unchanged, skipped = replace_if_finite(first, {"generator_opt": opt}, 0.0, (large, update))
    assert skipped == 1
    assert_equal(unchanged, first)


def test_a_loss_too_large_to_be_squared_is_no_reason_to_skip(first):
    small = jax.tree.map(jnp.zeros_like, first.generator)
    _, skipped = replace_if_finite(first, {}, jnp.float32(1e30), small)
    assert skipped == 0


def test_frozen_encoders_have_no_update_to_skip(config, vocabulary, first, make_batch):
    run = run_with(config, vocabulary, **{"train.encoders": "frozen"})
    _, metrics = run.take("gan", first, corrupted(make_batch(config), 0.0))
    assert {name for name in metrics if name.startswith("nonfinite/")} == {
        "nonfinite/discriminator",
        "nonfinite/generator",
    }
    assert not nonfinite(metrics)
