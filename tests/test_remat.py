"""Rematerialization: the same networks in less memory; and the memory of a compiled step."""

import copy
import functools

import jax
import numpy as np
import pytest
from test_steps import start_of_gan_stage

from ssagan_jax.steps import memory, pmap, state
from ssagan_jax.steps.gan_step import gan_step
from ssagan_jax.steps.networks import build_networks, initial_variables
from ssagan_jax.steps.optimizers import build_optimizers


def remat(config):
    config = copy.deepcopy(config)
    config.train.remat = True
    return config


def test_the_initial_weights_are_the_same_bit_for_bit(tiny_config, vocabulary):
    def initial(config):
        networks = build_networks(config, vocabulary)
        return jax.device_get(jax.jit(lambda: initial_variables(config, networks))())

    jax.tree.map(np.testing.assert_array_equal, initial(remat(tiny_config)), initial(tiny_config))


@pytest.fixture(scope="module")
def compiled(tiny_config, vocabulary, make_batch):
    """(config) to the start of stage 2, a batch and the compiled GAN step, on one device."""
    batch = make_batch(tiny_config)

    def compile_step(config):
        current, optimizers = start_of_gan_stage(config, vocabulary), build_optimizers(config, 1)
        context = state.StepContext(config, build_networks(config, vocabulary), optimizers)
        step = jax.jit(functools.partial(gan_step, context))
        return current, batch, step.lower(current, batch).compile()

    return compile_step


def test_a_step_is_the_same_to_rounding(compiled, tiny_config):
    found = []
    for config in (tiny_config, remat(tiny_config)):
        current, batch, step = compiled(config)
        after, metrics = jax.device_get(step(current, batch))
        moments = [getattr(after, f"{net}_opt")[0].mu for net in ("generator", "discriminator")]
        found.append((metrics, moments, after.batch_stats))
    plain, again = found
    assert plain[0]["discriminator/magp"] > 1e-6
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(plain), strict=True):
        assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other) + 1e-7


def test_fewer_residuals_are_stored_for_the_gradient(tiny_config, vocabulary):
    """Counted before XLA, which on CPUs may merge repeated computations."""

    def stored(config):
        networks = build_networks(config, vocabulary)
        variables = jax.eval_shape(lambda: initial_variables(config, networks))
        generator, discriminator = variables["generator"], variables["discriminator"]
        noise, sentence, size = np.ones((8, 8)), np.ones((8, 16)), config.data.image_size
        images = np.ones((8, size, size, 3))

        def generate(params, batch_stats):
            given = {"params": params, "batch_stats": batch_stats}
            outputs, _ = networks.generator.apply(
                given, noise, sentence, True, mutable=["batch_stats"]
            )
            return outputs[0]

        def logits(params):
            return networks.discriminator.apply({"params": params}, images, sentence)[0]

        def residuals(function, *given):
            pullback = jax.eval_shape(lambda *given: jax.vjp(function, *given)[1], *given)
            return sum(leaf.size for leaf in jax.tree.leaves(pullback))

        return (
            residuals(generate, generator["params"], generator["batch_stats"]),
            residuals(logits, discriminator["params"]),
        )

    for again, plain in zip(stored(remat(tiny_config)), stored(tiny_config), strict=True):
        assert again < 0.6 * plain


def test_the_memory_of_a_step_is_one_line(compiled, tiny_config):
    current, batch, step = compiled(tiny_config)
    sizes = memory.step_memory(step)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves((current, batch)))
    # Alignment adds a few bytes per array.
    assert sizes["arguments"] == pytest.approx(state_bytes, rel=0.01)
    assert sizes["total"] == (
        sizes["arguments"] + sizes["outputs"] - sizes["aliased"] + sizes["temporary"]
    )
    total, given = sizes["total"] / 2**20, sizes["arguments"] / 2**20
    assert memory.format_memory(step) == (
        f"memory of a step: {total:.1f} MiB on each device ({given:.1f} for state and batch, "
        f"{total - given:.1f} for intermediate results)"
    )


def test_a_donated_state_is_counted_once():
    """A step can be compiled from the shapes of a state, which it donates."""
    step = pmap.PmapStep(lambda kept, batch: (kept + batch["image"].sum(), {}))
    kept = pmap.replicate(np.zeros(3000, np.float32))
    kept = jax.ShapeDtypeStruct(kept.shape, kept.dtype, sharding=kept.sharding)
    sizes = memory.step_memory(step.compile(kept, {"image": np.zeros((4, 1000), np.float32)}))
    assert sizes["aliased"] == 4 * 3000
    assert 4 * 4000 <= sizes["arguments"] <= sizes["total"] < 1.5 * 4 * 4000
