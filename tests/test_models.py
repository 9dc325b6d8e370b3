"""The networks against formulas in numpy, and on one device against four."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from trees import randomize_zeros

from ssagan_jax.models import convolutions, generator, layers
from ssagan_jax.models.discriminator import Discriminator, DownBlock, JointConv
from ssagan_jax.models.generator import (
    ConditioningAugmentation,
    Generator,
    SemanticSpatialBatchNorm,
)
from ssagan_jax.models.image_encoder import CnnImageEncoder
from ssagan_jax.models.position_sums import broadcast_positions, sum_positions
from ssagan_jax.models.resampling import (
    downsample_conv,
    downsample_space_to_depth,
    upsample_2x,
    upsample_mask_2x,
)

SENTENCE = 5


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def initial(module, *arguments):
    return jax.jit(lambda key: module.init(key, *arguments))(jax.random.key(0))


def on_four_devices(function, inputs):
    """function(rows) of quarters of the inputs, with axis "batch"; outputs have a device axis."""
    split = inputs.reshape(4, -1, *inputs.shape[1:])
    return jax.pmap(function, axis_name="batch")(split)


# Generator


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("ssacn_blocks", [0, 2, 7])
def test_generator_shapes(size, ssacn_blocks):
    net = Generator(size, channels=4, ssacn_blocks=ssacn_blocks, mask_channels=4)
    noise, sentence = jnp.zeros((3, 8)), jnp.zeros((3, SENTENCE))
    (images, masks), variables = jax.eval_shape(
        lambda: net.init_with_output(jax.random.key(0), noise, sentence, False)
    )
    blocks = {32: 4, 64: 5}[size]
    assert images.shape == (3, size, size, 3)
    aware = min(ssacn_blocks, blocks)
    assert [mask.shape for mask in masks] == [(3, 4 << i, 4 << i, 1) for i in range(aware)]
    for index in range(blocks):
        assert ("sscbn0" in variables["params"][f"block{index}"]) == (index < aware)
    assert sum(name.startswith("mask") for name in variables["params"]) == aware


def test_generator_widths():
    assert generator.block_widths(256, 64) == [512, 512, 512, 512, 256, 128, 64]
    assert generator.block_widths(32, 4) == [32, 16, 8, 4]
    with pytest.raises(ValueError, match="image_size=48.*power of two"):
        generator.num_blocks(48)


@pytest.fixture(scope="module")
def generate():
    """(number of aware blocks, sentence seed) to images and masks, from the same noise."""
    noise, compiled = normal(0, 6, 8), {}

    def generate(ssacn_blocks, seed):
        if ssacn_blocks not in compiled:
            net = Generator(16, channels=4, ssacn_blocks=ssacn_blocks, mask_channels=4)
            variables = randomize_zeros(initial(net, noise, normal(1, 6, SENTENCE), False), 0)

            def apply(sentence):
                return net.apply(variables, noise, sentence, True, mutable=["batch_stats"])[0]

            compiled[ssacn_blocks] = jax.jit(apply)
        return compiled[ssacn_blocks](normal(seed, 6, SENTENCE))

    return generate


def test_generator_ranges(generate):
    images, masks = generate(2, seed=1)
    assert np.abs(images).max() < 1 and np.std(images) > 0.1
    for mask in masks:
        assert 0 < mask.min() < mask.max() < 1


def test_only_aware_blocks_read_the_sentence(generate):
    np.testing.assert_array_equal(generate(0, seed=1)[0], generate(0, seed=2)[0])
    first, second = generate(2, seed=1), generate(2, seed=2)
    assert np.abs(first[0] - second[0]).max() > 0.01
    # The first mask depends on the noise only, the second one on a block that read the sentence.
    np.testing.assert_array_equal(first[1][0], second[1][0])
    assert np.abs(first[1][1] - second[1][1]).max() > 1e-3


def test_conditioning_augmentation_is_its_gaussian():
    sentence, noise = normal(0, 6, SENTENCE), normal(1, 6, 8)
    net = ConditioningAugmentation()
    variables = {"params": initial(net, sentence, noise)["params"]}
    found, sown = net.apply(variables, sentence, noise, mutable="losses")
    dense = jax.device_get(variables["params"]["Dense_0"])
    mean, log_variance = np.split(sentence @ dense["kernel"] + dense["bias"], 2, 1)
    np.testing.assert_allclose(found, mean + np.exp(log_variance / 2) * noise, rtol=1e-4, atol=1e-5)
    divergences = [
        jnp.log(1 / deviation) + (deviation**2 + center**2) / 2 - 1 / 2
        for center, deviation in zip(mean.ravel(), np.exp(log_variance / 2).ravel(), strict=True)
    ]
    assert np.mean(divergences) > 0.05
    assert 0.05 < np.exp(log_variance / 2).mean() < 0.2  # Sentences can be read from the start.
    assert sown["losses"]["kl"][0] == pytest.approx(np.mean(divergences), rel=1e-4)


def test_augmented_blocks_see_a_variation_instead_of_the_sentence():
    sentence, noise = normal(0, 6, SENTENCE), normal(1, 6, 8)
    net = Generator(16, channels=4, mask_channels=4, conditioning_augmentation=True)
    variables = randomize_zeros(initial(net, noise, sentence, False), 0)
    params = dict(variables["params"])
    varied = ConditioningAugmentation().apply(
        {"params": params.pop("conditioning")}, sentence, noise
    )
    images, masks = net.apply(variables, noise, sentence, False)
    plain = Generator(16, channels=4, mask_channels=4)
    wanted = plain.apply(variables | {"params": params}, noise, varied, False)
    jax.tree.map(np.testing.assert_array_equal, (images, masks), wanted)


@pytest.mark.parametrize("modulation", ["reference", "paper"])
@pytest.mark.parametrize("train", [True, False])
def test_sscbn_is_its_equation(modulation, train):
    net = SemanticSpatialBatchNorm(modulation)
    features, sentence = 2 + 3 * normal(0, 4, 3, 5, 6), normal(1, 4, SENTENCE)
    mask = np.random.default_rng(2).uniform(size=(4, 3, 5, 1)).astype(np.float32)
    variables = randomize_zeros(initial(net, features, sentence, mask, False), 0)
    running = variables["batch_stats"]["BatchNorm_0"]
    found, updates = net.apply(variables, features, sentence, mask, train, mutable=["batch_stats"])

    def affine(name):
        hidden, out = (variables["params"][f"{name}_{part}"] for part in ("hidden", "out"))
        values = np.maximum(sentence @ hidden["kernel"] + hidden["bias"], 0)
        return (values @ out["kernel"] + out["bias"])[:, None, None, :]

    mean, variance = running["mean"], running["var"]
    if train:
        mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
    normalized = (features - mean) / np.sqrt(variance + 1e-5)
    gamma, beta = affine("gamma"), affine("beta")
    if modulation == "paper":
        wanted = mask * ((1 + gamma) * normalized + beta)
    else:
        wanted = (1 + mask * gamma) * normalized + mask * beta
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    kept = updates["batch_stats"]["BatchNorm_0"]
    if train:
        np.testing.assert_allclose(kept["mean"], 0.9 * running["mean"] + 0.1 * mean, rtol=1e-4)
        unbiased = features.var((0, 1, 2), ddof=1)
        np.testing.assert_allclose(kept["var"], 0.9 * running["var"] + 0.1 * unbiased, rtol=1e-6)
    else:
        np.testing.assert_array_equal(kept["mean"], running["mean"])


# Layers


def test_mask_upsampling_aligns_corners():
    mask = normal(0, 2, 3, 5, 1)
    wanted = np.zeros((2, 6, 10, 1))
    for y in range(6):
        for x in range(10):
            from_y, from_x = y * (3 - 1) / (6 - 1), x * (5 - 1) / (10 - 1)
            top, left = min(int(from_y), 1), min(int(from_x), 3)
            down, right = from_y - top, from_x - left
            upper = (1 - right) * mask[:, top, left] + right * mask[:, top, left + 1]
            lower = (1 - right) * mask[:, top + 1, left] + right * mask[:, top + 1, left + 1]
            wanted[:, y, x] = (1 - down) * upper + down * lower
    found = upsample_mask_2x(mask)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(
        found[:, [0, 0, -1, -1], [0, -1, 0, -1]], mask[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    )


def test_feature_upsampling():
    maps = normal(0, 2, 3, 4, 5)
    np.testing.assert_array_equal(
        upsample_2x(maps, "nearest"), maps.repeat(2, axis=1).repeat(2, axis=2)
    )
    ramp = np.array([0, 1, 4], np.float32).reshape(1, 1, 3, 1)
    wide = upsample_2x(ramp, "bilinear")
    np.testing.assert_allclose(wide[0, 0, :, 0], [0, 0.25, 0.75, 1.75, 3.25, 4], atol=1e-6)


@pytest.mark.parametrize("per_row", [True, False])
def test_sums_over_positions_and_broadcasts_have_their_gradients(per_row):
    maps = normal(0, 2, 3, 4, 5)
    axes = (1, 2) if per_row else (0, 1, 2)
    np.testing.assert_allclose(sum_positions(maps, per_row), maps.sum(axes), rtol=1e-5)
    rows = normal(1, *((2, 5) if per_row else (5,)))
    wide = jnp.broadcast_to(rows.reshape(-1, 1, 1, 5), maps.shape)
    np.testing.assert_array_equal(broadcast_positions(rows, maps.shape), wide)

    def curvature(function, values):  # With derivatives of both orders.
        slope = jax.grad(lambda values: jnp.sin(function(values)).sum())
        return jax.grad(lambda values: (slope(values) ** 2).sum())(values)

    for function, plain, values in (
        (lambda x: sum_positions(x, per_row), lambda x: x.sum(axes), maps),
        (
            lambda x: maps * broadcast_positions(x, maps.shape),
            lambda x: maps * x.reshape(-1, 1, 1, 5),
            rows,
        ),
    ):
        np.testing.assert_allclose(
            curvature(function, values), curvature(plain, values), rtol=1e-4, atol=1e-5
        )


def test_the_gradient_of_batch_norm_is_that_of_its_formula():
    maps, weights = normal(0, 4, 3, 2, 5) + 3, normal(1, 4, 3, 2, 5)

    def formula(values):
        centered = values - values.mean((0, 1, 2), keepdims=True)
        return centered / jnp.sqrt((centered**2).mean((0, 1, 2), keepdims=True) + 1e-5)

    def gradient(norm):
        return jax.grad(lambda values: (weights * jnp.sin(norm(values))).sum())(maps)

    found = gradient(lambda values: layers.normalize_by_batch(values, 1e-5, None)[0])
    np.testing.assert_allclose(found, gradient(formula), rtol=1e-4, atol=1e-5)


def test_batch_norm_is_over_the_global_batch():
    # The rows of each device have a different mean.
    inputs = normal(0, 8, 3, 3, 5) + np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    variables = layers.BatchNorm(True, True).init(jax.random.key(0), inputs)

    def normalize(axis_name):
        net = layers.BatchNorm(True, True, axis_name)
        return lambda rows: net.apply(variables, rows, mutable=["batch_stats"])

    one, one_stats = normalize(None)(inputs)
    four, four_stats = on_four_devices(normalize("batch"), inputs)
    np.testing.assert_allclose(four.reshape(one.shape), one, atol=1e-5)
    for wanted, found in zip(jax.tree.leaves(one_stats), jax.tree.leaves(four_stats), strict=True):
        np.testing.assert_allclose(found, np.stack([wanted] * 4), rtol=1e-5)
    assert np.abs(np.mean(one)) < 1e-5 and np.std(one) == pytest.approx(1, abs=1e-3)


def test_dropout_is_drawn_for_the_global_batch():
    inputs = 1 + np.abs(normal(0, 8, 400, 5))
    key = jax.random.key(3)

    def drop(axis_name, deterministic=False):
        net = layers.Dropout(0.3, axis_name)
        return lambda rows: net.apply({}, rows, deterministic, rngs={"dropout": key})

    one = drop(None)(inputs)
    four = on_four_devices(drop("batch"), inputs)
    np.testing.assert_allclose(four.reshape(one.shape), one, rtol=1e-6)
    assert np.mean(one == 0) == pytest.approx(0.3, abs=0.015)
    np.testing.assert_allclose(one[one != 0], inputs[one != 0] / 0.7, rtol=1e-6)
    assert not np.array_equal(one[:2] == 0, one[2:4] == 0)
    np.testing.assert_array_equal(drop(None, deterministic=True)(inputs), inputs)


# Discriminator


@pytest.mark.parametrize(
    ("projection_channels", "concat", "stddev"),
    [(0, True, False), (3, True, True), (3, False, False)],
)
def test_features_and_logits_compose_to_the_discriminator(projection_channels, concat, stddev):
    net = Discriminator(
        16,
        channels=4,
        projection_channels=projection_channels,
        concat_sentence=concat,
        minibatch_stddev=stddev,
    )
    images, sentence = normal(0, 3, 16, 16, 3), normal(1, 3, SENTENCE)
    variables = randomize_zeros(initial(net, images, sentence), 0)
    logits, features = jax.jit(net.apply)(variables, images, sentence)
    assert logits.shape == (3,) and features.shape == (3, 4, 4, 17 if stddev else 16)
    alone = net.apply(variables, images, method="features")
    np.testing.assert_allclose(alone, features, rtol=1e-4, atol=1e-5)
    again = net.apply(variables, features, sentence, method="logits")
    np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-5)
    other = net.apply(variables, features, sentence[::-1], method="logits")
    assert np.abs(other - logits)[[0, 2]].min() > 1e-3


@pytest.mark.parametrize("devices", [1, 2])
def test_the_minibatch_standard_deviation_is_a_channel_of_the_features(devices):
    """Values and gradients in the images, which go through all images of all devices."""
    images, weights = normal(0, 6, 16, 16, 3), normal(1, 6, 4, 4, 1)
    plain = Discriminator(16, channels=4)
    variables = randomize_zeros(initial(plain, images, normal(2, 6, SENTENCE)), 0)

    def by_hand(images):
        features = plain.apply(variables, images, method="features")
        mean = features.mean(0, keepdims=True)
        deviation = jnp.sqrt(((features - mean) ** 2).mean(0) + 1e-8).mean(-1)
        return features, jnp.stack([deviation] * 6)[..., None]

    net = Discriminator(16, channels=4, minibatch_stddev=True, axis_name="batch")

    def weighted(images, weights):
        features = net.apply(variables, images, method="features")
        return (features[..., -1:] * weights).sum(), features

    found = jax.pmap(
        jax.value_and_grad(weighted, has_aux=True), "batch", devices=jax.devices()[:devices]
    )
    rows = [x.reshape(devices, -1, *x.shape[1:]) for x in (images, weights)]
    (_, features), gradient = found(*rows)
    wanted = np.concatenate(by_hand(images), -1)
    np.testing.assert_allclose(features.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)
    wanted = jax.grad(lambda images: (by_hand(images)[1] * weights).sum())(images)
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(gradient.reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-6)


def test_projection_adds_an_inner_product_of_sentence_and_features():
    images, sentence = normal(0, 3, 16, 16, 3), normal(1, 3, SENTENCE)
    net = Discriminator(16, channels=4, projection_channels=5)
    variables = randomize_zeros(initial(net, images, sentence), 0)
    logits, features = net.apply(variables, images, sentence)
    params = variables["params"].copy()
    kernel = params["project_features"]["kernel"][0, 0]
    projected = jax.nn.leaky_relu(features @ kernel, 0.2).reshape(3, 4 * 4 * 5)
    product = jnp.einsum("bf,be,ef->b", projected, sentence, params["project_sentence"]["kernel"])
    del params["project_features"], params["project_sentence"]
    concatenated, _ = Discriminator(16, channels=4).apply({"params": params}, images, sentence)
    assert np.abs(product).min() > 0.01
    wanted = concatenated + product / np.sqrt(4 * 4 * 5)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
    # Not concatenated, the sentence is as good as zeros there.
    params["joint"] = {"kernel": params["joint"]["kernel"][:, :, : features.shape[-1]]}
    alone = Discriminator(16, channels=4, projection_channels=5, concat_sentence=False)
    found, _ = alone.apply({"params": variables["params"] | params}, images, sentence)
    zeros, _ = Discriminator(16, channels=4).apply(
        {"params": params | {"joint": variables["params"]["joint"]}}, images, 0 * sentence
    )
    wanted = zeros + product / np.sqrt(4 * 4 * 5)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    others = normal(2, 7, SENTENCE)
    own = np.stack([sentence, others[:3]], 1)
    own, found = net.apply(variables, features, own, others, method="cosines")
    factors = np.concatenate([sentence, others]) @ variables["params"]["project_sentence"]["kernel"]
    products = projected @ factors.T
    lengths = np.linalg.norm(projected, axis=1)[:, None] * np.linalg.norm(factors, axis=1)
    wanted = [np.diagonal(products / lengths, offset) for offset in (0, 3)]
    np.testing.assert_allclose(own, np.stack(wanted, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, (products / lengths)[:, 3:], rtol=1e-4, atol=1e-5)


def test_discriminator_widths():
    net = Discriminator(256, channels=64)
    images, sentence = jnp.zeros((2, 256, 256, 3)), jnp.zeros((2, 256))
    _, features = jax.eval_shape(
        lambda: net.init_with_output(jax.random.key(0), images, sentence)[0]
    )
    assert features.shape == (2, 4, 4, 1024)


def test_a_new_discriminator_sees_details_only_with_a_residual_gain():
    images, sentence = normal(0, 2, 16, 16, 3), normal(1, 2, SENTENCE)
    averaged = jnp.repeat(jnp.repeat(images.reshape(2, 4, 4, 4, 4, 3).mean((2, 4)), 4, 1), 4, 2)

    def difference(gain):
        net = Discriminator(16, channels=4, residual_gain=gain)
        variables = net.init(jax.random.key(0), images, sentence)
        # The first convolution averages too, so only the blocks count.
        from_rgb = variables["params"]["from_rgb"]
        from_rgb["kernel"] = jnp.zeros((3, 3, 3, 4)).at[1, 1].set(from_rgb["kernel"][1, 1])
        seen, blurred = (
            net.apply(variables, values, method="features") for values in (images, averaged)
        )
        return np.abs(seen - blurred).max()

    assert difference(0.0) < 1e-5 < 1e-3 < difference(0.5)


def assert_same_derivatives(convolve, wanted, inputs, kernel):
    """Values, first derivatives, and derivatives of the squared gradient, as in MA-GP."""

    def derivatives(convolve):
        def value(inputs, kernel):
            return jnp.sin(convolve(inputs, kernel)).sum()

        def penalty(inputs, kernel):
            return (jax.grad(value)(inputs, kernel) ** 2).sum()

        first = jax.grad(value, (0, 1))(inputs, kernel)
        return convolve(inputs, kernel), first, jax.grad(penalty, (0, 1))(inputs, kernel)

    pairs = map(jax.tree.leaves, map(derivatives, (wanted, convolve)))
    for right, found in zip(*pairs, strict=True):
        scale = np.abs(right).max()
        np.testing.assert_allclose(found / scale, right / scale, atol=1e-5)


def test_downsampling_of_blocks_is_the_convolution():
    inputs, kernel = normal(0, 2, 6, 8, 3), normal(1, 4, 4, 3, 5)
    assert downsample_space_to_depth(inputs, kernel).shape == (2, 3, 4, 5)
    assert_same_derivatives(downsample_space_to_depth, downsample_conv, inputs, kernel)


@pytest.mark.parametrize(("channels", "features"), [(3, 7), (7, 3), (2, 2), (6, 5)])
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 0), (2, 1)])
def test_convolutions_of_few_and_many_channels(channels, features, size, padding):
    inputs, kernel = normal(0, 2, 5, 6, channels), normal(1, size, size, channels, features)

    def wanted(inputs, kernel):
        around = ((padding, padding), (padding, padding))
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(inputs, kernel, (1, 1), around, dimension_numbers=layout)

    def convolve(inputs, kernel):
        return convolutions.conv_stride_1(inputs, kernel, padding)

    assert_same_derivatives(convolve, wanted, inputs, kernel)


def test_joint_convolution_is_that_of_repeated_sentences():
    """Of the first three sentences with the first features, and of the others with the second."""
    net, features, sentence = JointConv(6), normal(0, 2, 4, 4, 7), normal(1, 6, SENTENCE)
    params = net.init(jax.random.key(0), features, sentence)
    joined = [np.repeat(features, 3, 0), np.broadcast_to(sentence[:, None, None], (6, 4, 4, 5))]
    plain = nn.Conv(6, (3, 3), padding=1, use_bias=False)
    wanted = plain.apply(params, np.concatenate(joined, -1))
    np.testing.assert_allclose(net.apply(params, features, sentence), wanted, atol=1e-5)


def test_down_block_is_the_references():
    net = DownBlock(6)
    inputs = normal(0, 2, 8, 8, 4)
    params = randomize_zeros(net.init(jax.random.key(0), inputs), 0)["params"]

    def convolve(values, kernel, stride):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            values, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=layout
        )

    def leaky(values):
        return np.where(values > 0, values, 0.2 * values)

    # The reference's order: convolution of the shortcut, then pooling.
    shortcut = inputs @ np.asarray(params["shortcut"]["kernel"][0, 0]) + params["shortcut"]["bias"]
    shortcut = shortcut.reshape(2, 4, 2, 4, 2, 6).mean((2, 4))
    residual = leaky(convolve(inputs, params["DownsampleConv_0"]["kernel"], 2))
    residual = leaky(convolve(residual, params["Conv_0"]["kernel"], 1))
    wanted = shortcut + params["residual_gain"] * residual
    np.testing.assert_allclose(net.apply({"params": params}, inputs), wanted, rtol=1e-4, atol=1e-5)


# Image encoder


@pytest.mark.parametrize(("size", "regions"), [(32, 64), (64, 64), (128, 256), (256, 256)])
def test_image_encoder_shapes(size, regions):
    net = CnnImageEncoder(embedding_dim=6, channels=4)
    images = jnp.zeros((2, size, size, 3))
    found, codes = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), images)[0])
    assert found.shape == (2, regions, 6) and codes.shape == (2, 6)


@pytest.mark.parametrize(("pooling", "tells"), [("mean", False), ("flatten", True)])
def test_only_a_flattened_code_tells_an_image_from_its_mirror(pooling, tells):
    net = CnnImageEncoder(embedding_dim=6, channels=4, pooling=pooling)
    images = 0.1 * normal(0, 1, 32, 32, 3)
    (_, _), variables = net.init_with_output(jax.random.key(0), images)
    # With kernels that are their own mirror image, only the pooling can tell the two apart.
    symmetric = jax.tree.map(
        lambda leaf: (leaf + leaf[:, ::-1]) / 2 if leaf.ndim == 4 else leaf, variables
    )
    _, code = net.apply(symmetric, images)
    _, mirrored = net.apply(symmetric, images[:, :, ::-1])
    assert (np.abs(code - mirrored).max() > 1e-3) == tells


def test_image_encoder_regions_are_places():
    net = CnnImageEncoder(embedding_dim=6, channels=4)
    images = 0.1 * normal(0, 2, 32, 32, 3)
    apply = jax.jit(net.init_with_output)
    (regions, codes), _ = apply(jax.random.key(0), images)
    bright = images.copy()
    bright[0, :4, 28:] += 1
    (changed, other), _ = apply(jax.random.key(0), bright)
    difference = np.abs(changed - regions).max(-1).reshape(2, 8, 8)
    assert np.unravel_index(difference[0].argmax(), (8, 8)) == (0, 7)
    assert difference[1].max() == 0 and np.abs(codes - other)[0].max() > 1e-4
