"""A step in parts against the same step at once, in float64 where both can be had."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_steps import assert_all_close, assert_close, moments, precision
from trees import awake, doubled

from ssagan_jax.steps import pmap, state
from ssagan_jax.steps.gradient_accumulation import accumulate_microbatches
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers
from ssagan_jax.steps.train_steps import TrainSteps


@pytest.fixture(scope="module")
def config(tiny_config):
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.generator.ssacn_blocks = 1
    config.text_encoder.dropout = 0.0
    config.loss.magp_power = 2.0
    return config


def accumulated(config, parts):
    config = copy.deepcopy(config)
    config.train.grad_accumulation_steps = parts
    return config


@pytest.fixture(scope="module")
def first(config, vocabulary):
    """The state at the start of stage 2, in numpy."""
    optimizers = build_optimizers(config, 1)
    begin = jax.jit(
        lambda: state.begin_gan_stage(state.initial_state(config, vocabulary), optimizers)
    )
    begun = jax.device_get(begin())
    return begun.replace(
        encoders=awake(begun.encoders, 0),
        generator=awake(begun.generator, 1),
        discriminator=awake(begun.discriminator, 2),
    )


def test_parts_are_worked_off_in_order_and_their_values_averaged():
    def work(carry, rows, part):
        return carry * 10 + part, {"sum": rows["a"].sum()}, rows["a"] + carry

    carry, mean, rows = accumulate_microbatches(work, 3, jnp.float32(1), {"a": jnp.arange(6.0)})
    assert carry == 1012
    assert mean["sum"] == 15 / 3
    np.testing.assert_array_equal(rows, [1, 2, 12, 13, 105, 106])


@pytest.mark.parametrize("mismatched", ["roll", "shift"])
def test_the_discriminators_gradient_is_that_of_all_rows(config, vocabulary, first, mismatched):
    """It has no batch norm, so of given pictures parts change nothing, wrong captions included."""
    rng = np.random.default_rng(0)
    images, fakes = rng.normal(size=(2, 8, 16, 16, 3))
    sentence = rng.normal(size=(8, 16))
    plain = optax.sgd(1.0)
    found = []
    with precision(double=True):
        for parts in (1, 2):
            now = accumulated(config, parts)
            now.loss.mismatched = mismatched
            networks = build_networks(now, vocabulary)
            step = TrainSteps(now, networks, Optimizers(None, None, None, plain))
            params = doubled(first.discriminator)
            begun = first.replace(discriminator=params, discriminator_opt=plain.init(params))
            after, metrics = jax.jit(step._update_discriminator)(begun, images, fakes, sentence)
            gradient = jax.tree.map(np.subtract, params, after.discriminator)
            found.append(jax.device_get((gradient, metrics)))
    assert_all_close(found[1][0], found[0][0], 1e-9)
    assert_close(found[1][1], found[0][1], 1e-9)


def test_encoders_get_the_mean_of_the_parts_gradients(config, vocabulary, first, make_batch):
    """DAMSM contrasts within a part, so a part is as a batch of its own."""
    batch, plain = make_batch(config), optax.sgd(1.0)
    halves = [
        {name: rows[part] for name, rows in batch.items()} for part in np.r_[:8].reshape(2, 4)
    ]
    found = []
    with precision(double=True):
        begun = doubled(first).replace(encoders_opt=plain.init(first.encoders))
        for parts, rows in ((2, batch), (1, halves[0]), (1, halves[1])):
            now = accumulated(config, parts)
            networks = build_networks(now, vocabulary)
            step = TrainSteps(now, networks, Optimizers(plain, None, None, None))
            found.append(jax.device_get(jax.jit(step.encoders)(begun, rows)[0].encoders))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *found[1:])
    assert_close(found[0], mean, 1e-12)
    assert not np.allclose(found[1]["image"]["code"]["bias"], mean["image"]["code"]["bias"])


def test_a_gan_step_of_equal_parts_is_the_step_of_one(config, vocabulary, first, make_batch):
    """Halves that are equal, noise too, have equal statistics; DAMSM, which contrasts, is out."""
    config = copy.deepcopy(config)
    config.train.encoders, config.loss.damsm_weight = "frozen", 0.0
    half = {name: rows[:4] for name, rows in make_batch(config).items()}
    batch = {name: np.concatenate([rows, rows]) for name, rows in half.items()}
    noise = np.tile(np.random.default_rng(0).normal(size=(4, config.generator.noise_dim)), (2, 1))
    optimizers = build_optimizers(config, 1)
    found = []
    with precision(double=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainSteps, "_noise", lambda *_: jnp.asarray(noise))
        for parts in (1, 2):
            now = accumulated(config, parts)
            step = TrainSteps(now, build_networks(now, vocabulary), optimizers)
            found.append(jax.device_get(jax.jit(step.gan)(doubled(first), batch)))
    (once, metrics), (twice, others) = found
    for name in ("generator", "discriminator"):
        assert_close(getattr(twice, name), getattr(once, name), 1e-9)
    for name in ("generator_opt", "discriminator_opt"):
        assert_all_close(moments(twice, name), moments(once, name), 1e-9)
    for name, value in metrics.items():
        if "damsm" not in name:
            assert others[name] == pytest.approx(float(value), rel=1e-9), name
    # Running means move once a part: from 0 to 0.1 of the batch's, and to 0.19.
    moved = twice.batch_stats["BatchNorm_0"]["mean"] / once.batch_stats["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(moved, 1.9, rtol=1e-9)


def test_devices_and_parts_must_share_the_batch_evenly():
    pmap.check_batch_size(16, grad_accumulation_steps=2)
    with pytest.raises(
        pmap.DeviceError,
        match=r"batch_size=12: .* 4 devices .* times config.train.grad_acc.*=2; 8 or 16 would",
    ):
        pmap.check_batch_size(12, grad_accumulation_steps=2)
