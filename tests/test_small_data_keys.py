"""Keys for training on little data: each against its formula, on one device and on several."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssagan_jax.steps import generator_update, losses, state
from ssagan_jax.steps.ema import ema_decay, has_ema
from ssagan_jax.steps.networks import Networks

SIZE, ROWS = 8, 4


def changed(config, **values):
    """A copy with other values; keys have two underscores for a dot."""
    config = copy.deepcopy(config)
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in values.items()})
    return config


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def adam_after(steps, params):
    """Adam's state after some updates."""
    opt = optax.adam(1e-3).init(params)
    return (opt[0]._replace(count=jnp.int32(steps)), *opt[1:])


class LinearDiscriminator:
    """A logit that is linear in image and sentence; features are the image's part."""

    def features(self, params, images):
        return jnp.einsum("bhwc,hwc->b", images, params["image"])

    def apply(self, variables, images, sentence, method=None):
        params = variables["params"]
        features = images if method == "logits" else self.features(params, images)
        logits = features + sentence @ params["sentence"]
        return logits if method == "logits" else (logits, features)


class PoolingEncoder:
    """Regions and codes are means of pixels: no parameters."""

    def apply(self, variables, images):
        regions = images.reshape(len(images), -1, 3)
        return regions, regions[:, : SIZE * SIZE // 2].mean(1)


@pytest.fixture(scope="module")
def networks():
    return Networks(None, PoolingEncoder(), None, LinearDiscriminator())


@pytest.fixture(scope="module")
def params():
    return {"image": normal(0, SIZE, SIZE, 3), "sentence": normal(1, 3)}


@pytest.mark.parametrize(
    ("updates", "weight"), [(0, 2.0), (5, 1.25), (10, 0.5), (1000, 0.5), (2, None)]
)
def test_the_weight_of_damsm_follows_a_cosine(tiny_config, networks, params, updates, weight):
    """None: between, nearer to the start than a line is."""
    config = changed(
        tiny_config,
        loss__damsm_weight_start=2.0,
        loss__damsm_weight=0.5,
        loss__damsm_decay_steps=10,
    )
    context = state.StepContext(config, networks, None)
    current = state.TrainState(*[None] * 11).replace(
        discriminator=params, encoders={"image": {}}, generator_opt=adam_after(updates, params)
    )
    text = losses.TextFeatures(normal(2, ROWS, 2, 3), normal(3, ROWS, 3))
    batch = {"mask": np.ones((ROWS, 2), bool), "class_id": np.arange(ROWS)}
    total, (_, metrics) = generator_update.generator_loss(
        normal(4, ROWS, SIZE, SIZE, 3), context, current, {}, batch, text
    )
    found = (total - metrics["generator/adversarial"]) / metrics["generator/damsm"]
    assert metrics["generator/damsm"] > 0.1
    if weight is None:
        assert 1.7 < found < 2
    else:
        assert found == pytest.approx(weight, rel=1e-4)


@pytest.mark.parametrize(
    ("half_life", "rampup", "updates", "decay"),
    [
        # After 8 x 10 images, of which it may average a tenth, the half-life is one batch.
        (1000, 0.1, 10, 0.5),
        (1000, 0.1, 0, 0.0),
        (16, 0.1, 10_000, 0.5**0.5),
        (16, 0.0, 0, 0.5**0.5),
        # Seen images beyond 2**31.
        (1000, 0.1, 2**31 - 1, 0.5 ** (8 / 1000)),
    ],
)
def test_an_averaged_update_halves_in_so_many_images(
    tiny_config, half_life, rampup, updates, decay
):
    config = changed(tiny_config, train__ema_half_life=half_life, train__ema_rampup=rampup)
    assert has_ema(config) and not has_ema(tiny_config)
    found = jax.jit(lambda count: ema_decay(config, count))(jnp.int32(updates))
    assert found == pytest.approx(decay, abs=1e-6)
    config.train.ema_decay = 0.9  # The half-life takes precedence.
    assert ema_decay(config, jnp.int32(updates)) == pytest.approx(decay, abs=1e-6)
