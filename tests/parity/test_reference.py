"""Our networks, losses and training step against stored outputs of the SSA-GAN reference.

`make_goldens.py` wrote them. Arrays are compared by sketches, which estimate a relative difference
with an error of about a quarter.
"""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from formula import sketch, weight
from jax.flatten_util import ravel_pytree
from reference_inputs import BATCH, CHANNELS, EMBEDDING, IMAGE_ENCODER, VOCABULARY, WORDS, inputs

from ssagan_jax.config import default_config
from ssagan_jax.models.vocabulary import Vocabulary
from ssagan_jax.pytorch import name_mapping
from ssagan_jax.steps import gan_step, losses
from ssagan_jax.steps.discriminator_update import (
    DiscriminatorInputs,
    choose_mismatched,
    discriminator_loss,
)
from ssagan_jax.steps.networks import Networks, build_networks
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.state import StepContext, TrainState

AGAINST = "SSA-GAN reference"
GAMMAS = (5.0, 5.0, 10.0)
# The reference's names of networks to ours.
OURS = {theirs: ours for ours, theirs in name_mapping.PYTORCH_NETWORKS.items()}


class ImageEncoder(nn.Module):
    """Linear maps of averaged pixels, in place of Inception v3, which is slow."""

    @nn.compact
    def __call__(self, images):
        batch = images.shape[0]
        small = images.reshape(batch, 16, 16, 16, 16, 3).mean((2, 4))
        coarse = small.reshape(batch, 4, 4, 4, 4, 3).mean((2, 4))
        regions = nn.Dense(EMBEDDING, use_bias=False, name="regions")(small)
        code = nn.Dense(EMBEDDING, name="code")(coarse.reshape(batch, -1))
        return regions.reshape(batch, -1, EMBEDDING), code


@pytest.fixture(scope="module")
def goldens():
    with np.load(Path(__file__).parent / "goldens" / "reference.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def given():
    return inputs()


@pytest.fixture(scope="module")
def config():
    """The reference's choices and sizes, with fewer channels."""
    config = default_config()
    config.data.max_words = WORDS
    config.text_encoder.dropout = 0.0
    config.generator.channels = CHANNELS
    config.discriminator.channels = CHANNELS
    config.discriminator.updates = 2
    config.loss.mismatched = "shift"
    config.train.batch_size = BATCH
    return config


@pytest.fixture(scope="module")
def networks(config):
    made = build_networks(config, Vocabulary(VOCABULARY))
    return Networks(made.text_encoder, ImageEncoder(), made.generator, made.discriminator)


def linear(name):
    """Of the small image encoder: PyTorch's name of a leaf's path."""
    return ".".join((*name[:-1], "weight" if name[-1] == "kernel" else name[-1]))


@pytest.fixture(scope="module")
def variables(networks):
    """Network to its variables with the formula's weights, in float32."""
    image = jnp.zeros((1, 256, 256, 3))
    noise, sentence = jnp.zeros((1, 100)), jnp.zeros((1, EMBEDDING))
    tokens = jnp.ones((1, WORDS), jnp.int32)
    arguments = {
        "netG": (networks.generator, noise, sentence, False),
        "netD": (networks.discriminator, image, sentence),
        "text_encoder": (networks.text_encoder, tokens, tokens > 0, False),
    }
    made = {}
    for name, (net, *rest) in arguments.items():
        shapes = jax.eval_shape(functools.partial(_init, net, *rest))
        torch_shapes = {
            key: tensor.shape
            for key, tensor in name_mapping.to_pytorch(OURS[name], zeros(shapes)).items()
        }
        tensors = {key: weight(f"{name}/{key}", shape) for key, shape in torch_shapes.items()}
        made[name], _ = name_mapping.from_pytorch(OURS[name], tensors, shapes, name)
    shapes = jax.eval_shape(functools.partial(_init, ImageEncoder(), image))["params"]
    flat = traverse_util.flatten_dict(shapes)
    values = {
        path: weight(f"{IMAGE_ENCODER}/{linear(path)}", leaf.shape[::-1]).T
        for path, leaf in flat.items()
    }
    made[IMAGE_ENCODER] = {"params": traverse_util.unflatten_dict(values)}
    return made


def _init(net, *arguments):
    return net.init(jax.random.key(0), *arguments)


def zeros(shapes):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def distance(found, wanted):
    """‖a - b‖ / ‖b‖ of an array and a sketch."""
    found = sketch(np.asarray(found))
    assert found.shape == wanted.shape
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def images(pixels, dtype=np.float32):
    return pixels.astype(dtype) / dtype(127.5) - 1


# Networks and losses, in float32


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_generator(networks, variables, given, goldens, measured, mode):
    noise, sentence = np.float32(given["noise"]), np.float32(given["sentence"])
    generate = jax.jit(
        functools.partial(networks.generator.apply, mutable=["batch_stats"]), static_argnums=3
    )
    (image, masks), updates = generate(variables["netG"], noise, sentence, mode == "train")
    part = f"generator, {'training' if mode == 'train' else 'evaluation'}"
    measured(part, AGAINST, distance(image, goldens[f"generator/{mode}/image"]), 1e-4)
    assert len(masks) == 7
    for mask in masks:
        wanted = goldens[f"generator/{mode}/mask{mask.shape[1]}"]
        measured(f"{part}, 7 masks", AGAINST, distance(mask, wanted), 1e-4)
    if mode == "train":
        found = name_mapping.to_pytorch(OURS["netG"], variables["netG"] | updates)
        stats = {name for name in found if "running" in name}
        assert {f"generator/stats/{n}" for n in stats} == {n for n in goldens if "/stats/" in n}
        for name in stats:
            wanted = goldens[f"generator/stats/{name}"]
            measured("generator, running statistics", AGAINST, distance(found[name], wanted), 1e-4)


def test_discriminator(networks, variables, given, goldens, measured):
    discriminate = jax.jit(networks.discriminator.apply)
    logits, features = discriminate(
        variables["netD"], images(given["pixels"]), np.float32(given["sentence"])
    )
    for name, found in (("logits", logits), ("features", features)):
        wanted = goldens[f"discriminator/{name}"]
        measured(f"discriminator, {name}", AGAINST, distance(found, wanted), 1e-4)


def test_damsm(given, goldens, measured):
    regions, words, codes, sentence = (
        jnp.float32(given[name]) for name in ("regions", "words", "codes", "sentence")
    )
    mask = np.arange(WORDS) < given["lengths"][:, None]
    captions = words, sentence
    terms = losses.damsm_losses((regions, codes), captions, mask, given["class_ids"], GAMMAS)
    for name, found in terms.items():
        measured(f"DAMSM, {name}", AGAINST, distance(found, goldens[f"damsm/{name}"]), 1e-5)
    _, attention = losses.word_attention(regions, words, mask, GAMMAS[0])
    for row, length in enumerate(given["lengths"]):
        wanted = goldens[f"damsm/attention{row}"]
        found = distance(attention[row, row, :length], wanted)
        measured("DAMSM, attention maps", AGAINST, found, 1e-5)


def test_matching_aware_penalty(config, networks, variables, given, goldens, measured):
    # The sentence embeddings are those of the text encoder, as in an iteration.
    pixels = images(given["pixels"])
    mask = np.arange(WORDS) < given["lengths"][:, None]
    _, sentence = networks.text_encoder.apply(
        variables["text_encoder"], given["tokens"].astype(np.int32), mask, False
    )
    context = StepContext(config, networks, optimizers=None)

    def penalty(params):
        own = sentence[:, None]
        mismatched = choose_mismatched(context, own, sentence)
        inputs = DiscriminatorInputs(pixels, pixels, own, sentence, *mismatched)
        return discriminator_loss(params, context, inputs, sentence).weighted_magp

    value, gradient = jax.jit(jax.value_and_grad(penalty))(variables["netD"]["params"])
    measured("MA-GP, value", AGAINST, distance(value, goldens["magp/weighted"]), 1e-3)
    found = name_mapping.to_pytorch(OURS["netD"], {"params": gradient}, {})
    assert {f"magp/gradient/{name}" for name in found} == {
        name for name in goldens if name.startswith("magp/gradient/")
    }
    for name, array in found.items():
        wanted = goldens[f"magp/gradient/{name}"]
        if not wanted.any():  # Biases, which the penalty does not depend on.
            assert not array.any(), name
        else:
            measured("MA-GP, gradient in D", AGAINST, distance(array, wanted), 1e-3)


# One iteration, in float64


def by_reference_name(trees):
    """Network to collections, by the reference's name of every tensor."""
    found = {}
    for net in ("netG", "netD", "text_encoder"):
        tensors = name_mapping.to_pytorch(OURS[net], trees[net], {})
        found |= {f"{net}/{name}": tensor for name, tensor in tensors.items()}
    flat = traverse_util.flatten_dict(trees[IMAGE_ENCODER]["params"])
    return found | {f"{IMAGE_ENCODER}/{linear(path)}": leaf.T for path, leaf in flat.items()}


def trees_of(encoders, generator, discriminator, batch_stats=None):
    generator = {"params": generator}
    return {
        "netG": generator | ({"batch_stats": batch_stats} if batch_stats else {}),
        "netD": {"params": discriminator},
        "text_encoder": {"params": encoders["text"]},
        IMAGE_ENCODER: {"params": encoders["image"]},
    }


def moments(state, name):
    """A moment of Adam of all networks, by the reference's names."""
    trees = []
    with jax.enable_x64(True):
        for net in ("encoders", "generator", "discriminator"):
            _, unflatten = ravel_pytree(getattr(state, net))
            trees.append(unflatten(optax.tree.get(getattr(state, f"{net}_opt"), name)))
    return by_reference_name(trees_of(*trees))


@pytest.fixture(scope="module")
def iteration(config, networks, variables, given):
    """State and metrics after one step of stage 2, in float64."""
    batch = {
        "image": given["pixels"],
        "tokens": given["tokens"].astype(np.int32),
        "mask": np.arange(WORDS) < given["lengths"][:, None],
        "class_id": given["class_ids"],
    }
    optimizers = build_optimizers(config, damsm_steps=1)
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr(gan_step, "normalize_images", lambda pixels: images(pixels, np.float64))
        patch.setattr(gan_step, "sample_noise", lambda *_: jnp.asarray(given["noise"]))
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        encoders = {
            "text": params["text_encoder"]["params"],
            "image": params[IMAGE_ENCODER]["params"],
        }
        generator, discriminator = params["netG"]["params"], params["netD"]["params"]
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(jax.random.key(0)),
            encoders=encoders,
            trunk={},
            encoders_opt=optimizers.encoders.init(encoders),
            generator=generator,
            batch_stats=params["netG"]["batch_stats"],
            generator_opt=optimizers.generator.init(generator),
            ema=None,
            discriminator=discriminator,
            discriminator_opt=optimizers.discriminator.init(discriminator),
        )
        context = StepContext(config, networks, optimizers)
        # In float64 at 256 pixels, optimizing takes less time than it saves.
        optimized = {"xla_backend_optimization_level": 2}
        step = jax.jit(functools.partial(gan_step.gan_step, context), compiler_options=optimized)
        return jax.device_get(step(state, batch))


def test_iteration_losses(iteration, goldens, measured):
    _, metrics = iteration
    found = {
        "hinge": metrics["discriminator/adversarial"],
        "weighted_magp": 2 * metrics["discriminator/magp"],
        "damsm": metrics["damsm/words"] + metrics["damsm/sentences"],
        "generator": metrics["generator/adversarial"],
        "weighted_damsm": 0.1 * metrics["generator/damsm"],
    }
    for name, value in found.items():
        wanted = goldens[f"iteration/losses/{name}"]
        measured("iteration, losses", AGAINST, distance(value, wanted), 1e-6)


def test_iteration_parameters(iteration, goldens, measured):
    state, _ = iteration
    trees = trees_of(state.encoders, state.generator, state.discriminator, state.batch_stats)
    found = by_reference_name(trees)
    wanted = {n: v for n, v in goldens.items() if n.startswith(("iteration/net", "iteration/text"))}
    wanted |= {n: v for n, v in goldens.items() if n.startswith(f"iteration/{IMAGE_ENCODER}")}
    assert wanted.keys() == {f"iteration/{name}" for name in found}
    for name, array in found.items():
        far = distance(array, goldens[f"iteration/{name}"])
        measured("iteration, every parameter tensor", AGAINST, far, 1e-6)


@pytest.mark.parametrize(("name", "part"), [("mu", "gradients"), ("nu", "their squares")])
def test_iteration_gradients(iteration, goldens, measured, name, part):
    """Adam's moments: with b1 = 0 the last update's gradient, and squares of both updates'."""
    found = moments(iteration[0], name)
    stored = [key for key in goldens if key.startswith(f"iteration/{name}/")]
    assert set(stored) == {f"iteration/{name}/{key}" for key in found}
    for key, array in found.items():
        wanted = goldens[f"iteration/{name}/{key}"]
        if np.linalg.norm(wanted) < 1e-15:  # In front of a norm: zero but for rounding.
            assert np.linalg.norm(array) < 1e-15
        else:
            measured(f"iteration, {part}", AGAINST, distance(array, wanted), 1e-6)
