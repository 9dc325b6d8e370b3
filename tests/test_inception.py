"""Inception v3 against stored outputs of PyTorch, and DAMSM's heads on the frozen trunk."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax import lax

from ssagan_jax.config import ConfigError, default_config
from ssagan_jax.models.inception import InceptionImageEncoder, InceptionV3Features
from ssagan_jax.pytorch.torchvision_inception import from_torchvision
from ssagan_jax.training.pretrained_encoders import with_pretrained_sizes

TORCH_NAMES = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "bias": "bn.bias",
    "mean": "bn.running_mean",
    "variance": "bn.running_var",
}
# torchvision 0.29's and torch-fidelity 0.4's networks on `image`, with the weights of `tensors`:
# channels 1, 9 and 700 at row 4, column 9 of Mixed_6e, and the first of pooled and of the logits.
WANTED = {
    "torchvision": (
        [1.4474202, 0.91525006, 8.287208],
        [0.19055174, 0.8425314, 0.09860907],
        [-0.43512118, -4.3722906, -3.9745638],
    ),
    "fid": (
        [1.6458707, 0.87256575, 8.209567],
        [0.34976715, 0.856341, 0.08403195],
        [-0.20326279, -4.8271565, -4.180837],
    ),
}


def by_name(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        spread = np.float32((2 / np.prod(shape[1:])) ** 0.5)
        return rng.standard_normal(shape, np.float32) * spread
    low, high = (0.5, 1.5) if name.endswith(("running_var", "bn.weight")) else (-0.2, 0.2)
    return rng.uniform(low, high, shape).astype(np.float32)


def trunk_shapes(variant, images):
    network = InceptionV3Features(variant, logits=True)
    return jax.eval_shape(network.init, jax.random.key(0), images)["trunk"]


def tensors(variant, images):
    made = {
        "AuxLogits.fc.bias": np.zeros(7),
        "Mixed_5b.branch1x1.bn.num_batches_tracked": np.ones(()),
    }
    for path, leaf in traverse_util.flatten_dict(trunk_shapes(variant, images)).items():
        shape = leaf.shape
        if path[-1] == "kernel":
            shape = (shape[-1], shape[-2], *shape[:-2])
        last = {"kernel": "weight", "bias": "bias"} if path[0] == "fc" else TORCH_NAMES
        name = ".".join((*path[:-1], last[path[-1]]))
        made[name] = by_name(name, shape)
    return made


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[0:64, 0:64] / 64
    channels = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * x * y), np.sin(9 * y)], -1)
    return jnp.asarray(channels[None], jnp.float32)


@pytest.fixture(scope="module")
def torchvision_tensors(image):
    return tensors("torchvision", image)


@pytest.mark.parametrize("variant", ["torchvision", "fid"])
def test_outputs_are_those_of_pytorch(image, variant):
    variables = from_torchvision(tensors(variant, image), variant, logits=True)
    taps = jax.jit(InceptionV3Features(variant, logits=True).apply)(variables, image)
    mixed_6e, pooled, logits = WANTED[variant]
    assert taps.mixed_6e.shape == (1, 17, 17, 768) and taps.pooled.shape == (1, 2048)
    np.testing.assert_allclose(taps.mixed_6e[0, 4, 9, [1, 9, 700]], mixed_6e, atol=2e-4)
    np.testing.assert_allclose(taps.pooled[0, :3], pooled, atol=1e-4)
    np.testing.assert_allclose(taps.logits[0, :3], logits, atol=1e-4)


def test_image_encoder_is_two_heads_on_the_frozen_trunk(image, torchvision_tensors):
    trunk = from_torchvision(torchvision_tensors)["trunk"]
    assert "fc" not in trunk
    encoder = InceptionImageEncoder(embedding_dim=5)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), image)
    assert shapes["params"].keys() == {"regions", "code"}
    assert jax.tree.map(np.shape, trunk) == jax.tree.map(np.shape, shapes["trunk"]["inception"])

    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes["params"])
    params["regions"]["kernel"][[1, 9, 700], [0, 1, 2]] = 1
    params["code"]["kernel"][[0, 1, 2], [0, 1, 2]] = 1
    variables = {"params": params, "trunk": {"inception": trunk}}
    regions, code = jax.jit(encoder.apply)(variables, image)
    assert regions.shape == (1, 289, 5)
    mixed_6e, pooled, _ = WANTED["torchvision"]
    np.testing.assert_allclose(regions[0, 4 * 17 + 9, :3], mixed_6e, atol=2e-4)
    np.testing.assert_allclose(code[0, :3], pooled, atol=1e-4)


def test_a_mutable_trunk_normalizes_by_the_batch_and_updates_its_statistics(
    image, torchvision_tensors
):
    trunk = from_torchvision(torchvision_tensors)
    images = jnp.concatenate([image, image[:, ::-1], 0.5 * image[:, :, ::-1]])
    apply = jax.jit(functools.partial(InceptionV3Features().apply, mutable=["trunk"]))
    _, updates = apply(trunk, images)
    first, second = ("Conv2d_1a_3x3", "Conv2d_2a_3x3")
    # By hand up to the second convolution's mean.
    resized = jax.image.resize(images, (3, 299, 299, 3), "linear", antialias=False)
    hidden = lax.conv_general_dilated(
        resized,
        trunk["trunk"][first]["kernel"],
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    before, after = trunk["trunk"][first], updates["trunk"][first]
    hidden = np.asarray(hidden)
    mean, variance = np.mean(hidden, (0, 1, 2)), np.var(hidden, (0, 1, 2), ddof=1)
    np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(after["variance"], 0.9 * before["variance"] + 0.1 * variance, 1e-5)
    for name in ("kernel", "scale", "bias"):
        np.testing.assert_array_equal(after[name], before[name])
    norm = (hidden - mean) / np.sqrt(np.var(hidden, (0, 1, 2)) + 1e-3)
    hidden = np.maximum(norm * before["scale"] + before["bias"], 0)
    hidden = lax.conv_general_dilated(
        hidden,
        trunk["trunk"][second]["kernel"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    moved = 0.9 * trunk["trunk"][second]["mean"] + 0.1 * np.mean(hidden, (0, 1, 2))
    np.testing.assert_allclose(updates["trunk"][second]["mean"], moved, atol=1e-4)


def test_heads_are_initialized_within_a_tenth(image):
    init = jax.jit(lambda key: InceptionImageEncoder(embedding_dim=5).init(key, image)["params"])
    params = init(jax.random.key(0))
    assert "bias" not in params["regions"]
    for head in params.values():
        assert 0.09 < np.abs(head["kernel"]).max() <= 0.1
        assert abs(head["kernel"].mean()) < 0.01


def test_every_bad_tensor_is_named(torchvision_tensors):
    bad = dict(torchvision_tensors)
    del bad["Mixed_7b.branch3x3_2b.bn.running_var"]
    bad["Conv2d_1a_3x3.conv.weight"] = np.zeros((32, 3, 5, 5), np.float32)
    bad["emb_features.weight"] = np.zeros(3)
    with pytest.raises(ValueError, match="running_var is missing") as error:
        from_torchvision(bad)
    assert "(32, 3, 5, 5) instead of (32, 3, 3, 3)" in str(error.value)
    assert "emb_features.weight is unknown" in str(error.value)


def test_fid_classifier_is_not_torchvisions(torchvision_tensors):
    with pytest.raises(ValueError, match=r"fc.weight has shape \(1000, 2048\)"):
        from_torchvision(torchvision_tensors, "fid", logits=True)


def test_wrong_use_is_named(image):
    with pytest.raises(ValueError, match="variant='v4'.*torchvision, fid"):
        InceptionV3Features("v4").init(jax.random.key(0), image)
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 1\)"):
        InceptionV3Features().init(jax.random.key(0), image[..., :1])


def test_missing_weights_are_refused_with_where_to_get_them():
    config = default_config()
    config.image_encoder.update(name="inception_v3", weights="nowhere.pth")
    message = r"weights='nowhere\.pth': there is no such file; download .*inception_v3_google-0cc3"
    with pytest.raises(ConfigError, match=message):
        with_pretrained_sizes(config)
