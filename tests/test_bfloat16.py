"""Mixed precision: bfloat16 activations; parameters, statistics and losses stay float32."""

import copy
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_steps import Run, distances, start_of_gan_stage

from ssagan_jax.models import layers
from ssagan_jax.steps import pmap
from ssagan_jax.steps.networks import build_networks


def test_batch_statistics_are_those_of_float32():
    """A large mean and a small spread: bfloat16 has 8 bits, steps of 0.5 at 64 and above."""
    whole = 64 + 0.5 * np.random.default_rng(0).integers(0, 4, (8, 16, 16, 4))
    inputs = jnp.asarray(whole, jnp.bfloat16)
    np.testing.assert_array_equal(np.float64(inputs), whole)
    norm = layers.BatchNorm(True, False)
    outputs, updates = norm.apply(norm.init(jax.random.key(0), inputs), inputs, mutable=True)
    found = updates["batch_stats"]
    assert outputs.dtype == jnp.bfloat16 and found["mean"].dtype == found["var"].dtype == np.float32
    mean, var = whole.mean((0, 1, 2)), whole.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(found["mean"], 0.1 * mean, rtol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * var, rtol=1e-5)
    normalized = (whole - mean) / np.sqrt(whole.var((0, 1, 2)) + 1e-5)
    # One rounding to 8 bits, at the end.
    np.testing.assert_allclose(np.float64(outputs), normalized, rtol=2**-8, atol=1e-6)
    naive = np.float64(inputs.mean((0, 1, 2)))
    assert np.abs(naive - mean).max() > 1e-3 * mean.max()


@pytest.fixture(scope="module")
def both(tiny_config, vocabulary, make_batch):
    """The start of stage 2; state and metrics after one step in float32 and in bfloat16."""
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.loss.magp_power = 2.0
    bfloat16 = copy.deepcopy(config)
    bfloat16.train.compute_dtype = "bfloat16"
    runs = [Run(each, vocabulary, 2, False) for each in (config, bfloat16)]
    first = start_of_gan_stage(config, vocabulary)
    return first, [run.take("gan", first, make_batch(config)) for run in runs]


def test_losses_are_near_float32s_and_the_state_is_float32(both):
    first, ((float32, wanted), (bfloat16, found)) = both
    kinds = jax.tree.map(lambda leaf: leaf.dtype, first)
    assert jax.tree.map(lambda leaf: leaf.dtype, bfloat16) == kinds
    # Products of 8-bit significands have an error of 2**-8, of which layers add up a few.
    for name, value in wanted.items():
        assert found[name] == pytest.approx(float(value), rel=0.03, abs=0.02), name
        assert found[name].dtype == np.float32
    assert max(distances(bfloat16.batch_stats, float32.batch_stats).values()) < 0.05
    assert any(found[name] != value for name, value in wanted.items())


def test_no_convolution_of_a_step_is_left_in_float32_but_the_logits(
    tiny_config, vocabulary, make_batch
):
    config = copy.deepcopy(tiny_config)
    config.train.compute_dtype = "bfloat16"
    networks = build_networks(config, vocabulary, pmap.BATCH_AXIS)
    size = config.data.image_size
    images, sentence = jnp.zeros((2, size, size, 3)), jnp.zeros((2, 16))
    discriminator = networks.discriminator
    variables = jax.eval_shape(discriminator.init, jax.random.key(0), images, sentence)
    text = str(jax.make_jaxpr(discriminator.apply)(variables, images, sentence))
    kinds = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)", text)
    assert kinds.count("f32") == 1 and kinds.count("bf16") > 5
    sampling = build_networks(config, vocabulary)
    assert sampling.discriminator.dtype is None and sampling.generator.dtype is None
