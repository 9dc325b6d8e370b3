"""Steps with gradient accumulation against the same steps on the whole batch, in float64."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_steps import assert_all_close, assert_close, moments, precision, start_of_gan_stage
from trees import to_float64

from ssagan_jax.steps import gan_step, state
from ssagan_jax.steps.damsm_step import damsm_step
from ssagan_jax.steps.discriminator_update import update_discriminator
from ssagan_jax.steps.gradient_accumulation import MicrobatchOutputs, accumulate_microbatches
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers


@pytest.fixture(scope="module")
def config(tiny_config):
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.generator.ssacn_blocks = 1
    config.text_encoder.dropout = 0.0
    config.loss.magp_power = 2.0
    return config


def context_of(config, vocabulary, microbatches, optimizers):
    config = copy.deepcopy(config)
    config.train.grad_accumulation_steps = microbatches
    return state.StepContext(config, build_networks(config, vocabulary), optimizers)


@pytest.fixture(scope="module")
def first(config, vocabulary):
    return start_of_gan_stage(config, vocabulary)


def test_microbatches_run_in_order_and_their_values_are_averaged():
    def work(carry, rows, index):
        total = {"sum": rows["a"].sum()}
        return MicrobatchOutputs(carry * 10 + index, total, rows["a"] + carry)

    batch = {"a": jnp.arange(6.0)}
    carry, averaged, rows = accumulate_microbatches(work, 3, batch, jnp.float32(1))
    assert carry == 1012
    assert averaged["sum"] == 15 / 3
    np.testing.assert_array_equal(rows, [1, 2, 12, 13, 105, 106])


@pytest.mark.parametrize("mismatched", ["roll", "shift"])
def test_the_discriminators_gradient_is_that_of_all_rows(config, vocabulary, first, mismatched):
    """It has no batch norm, so microbatches change nothing; pairs are made before the split."""
    config = copy.deepcopy(config)
    config.loss.mismatched = mismatched
    rng = np.random.default_rng(0)
    images, fakes = rng.normal(size=(2, 8, 16, 16, 3))
    sentence = rng.normal(size=(8, 16))
    plain = optax.sgd(1.0)
    found = []
    with precision(double=True):
        for microbatches in (1, 2):
            optimizers = Optimizers(None, None, None, plain)
            context = context_of(config, vocabulary, microbatches, optimizers)
            update = jax.jit(functools.partial(update_discriminator, context))
            params = to_float64(first.discriminator)
            begun = first.replace(discriminator=params, discriminator_opt=plain.init(params))
            after, metrics = update(begun, images, fakes, sentence[:, None], sentence)
            gradient = jax.tree.map(np.subtract, params, after.discriminator)
            found.append(jax.device_get((gradient, metrics)))
    assert_all_close(found[1][0], found[0][0], 1e-9)
    assert_close(found[1][1], found[0][1], 1e-9)


def test_encoders_get_the_mean_of_the_microbatches_gradients(config, vocabulary, first, make_batch):
    """DAMSM contrasts within a microbatch, so each one is like a batch."""
    batch, plain = make_batch(config), optax.sgd(1.0)
    halves = [
        {name: rows[part] for name, rows in batch.items()} for part in np.r_[:8].reshape(2, 4)
    ]
    found = []
    with precision(double=True):
        begun = to_float64(first).replace(encoders_opt=plain.init(first.encoders))
        for microbatches, rows in ((2, batch), (1, halves[0]), (1, halves[1])):
            optimizers = Optimizers(plain, None, None, None)
            context = context_of(config, vocabulary, microbatches, optimizers)
            after, _ = jax.jit(functools.partial(damsm_step, context))(begun, rows)
            found.append(jax.device_get(after.encoders))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *found[1:])
    assert_close(found[0], mean, 1e-12)
    assert not np.allclose(found[1]["image"]["code"]["bias"], mean["image"]["code"]["bias"])


def test_a_gan_step_of_equal_microbatches_is_the_step_of_one(config, vocabulary, first, make_batch):
    """Equal halves, noise included, have equal statistics; DAMSM, which contrasts, has weight 0."""
    config = copy.deepcopy(config)
    config.train.encoders, config.loss.damsm_weight = "frozen", 0.0
    half = {name: rows[:4] for name, rows in make_batch(config).items()}
    batch = {name: np.concatenate([rows, rows]) for name, rows in half.items()}
    noise = np.tile(np.random.default_rng(0).normal(size=(4, config.generator.noise_dim)), (2, 1))
    optimizers = build_optimizers(config, 1)
    found = []
    with precision(double=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan_step, "sample_noise", lambda *_: jnp.asarray(noise))
        for microbatches in (1, 2):
            context = context_of(config, vocabulary, microbatches, optimizers)
            step = jax.jit(functools.partial(gan_step.gan_step, context))
            found.append(jax.device_get(step(to_float64(first), batch)))
    (once, metrics), (twice, others) = found
    for name in ("generator", "discriminator"):
        assert_close(getattr(twice, name), getattr(once, name), 1e-9)
    for name in ("generator_opt", "discriminator_opt"):
        assert_all_close(moments(twice, name), moments(once, name), 1e-9)
    for name, value in metrics.items():
        if "damsm" not in name:
            assert others[name] == pytest.approx(float(value), rel=1e-9), name
    # Running means move once per microbatch: from 0 to 0.1 of the batch's, then to 0.19.
    moved = twice.batch_stats["BatchNorm_0"]["mean"] / once.batch_stats["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(moved, 1.9, rtol=1e-9)
