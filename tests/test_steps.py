"""Both training steps: against plain compositions of their losses, and on 1, 2 and 4 devices.

Comparisons are in float64, where two orders of the same sums agree to 1e-9 and rounding hides no
error; across devices also in float32, which users run.
"""

import contextlib
import copy
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import randomize_zeros, to_float64

from ssagan_jax.models import layers
from ssagan_jax.steps import damsm_step, gan_step, losses, pmap, state
from ssagan_jax.steps.discriminator_update import (
    DiscriminatorInputs,
    choose_mismatched,
    discriminator_loss,
    known_sentences,
    update_discriminator,
)
from ssagan_jax.steps.networks import Networks, build_networks
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers

DAMSM_STEPS = 20
STEPS = {"damsm": damsm_step.damsm_step, "gan": gan_step.gan_step}
NETWORKS = ("encoders", "generator", "batch_stats", "discriminator")
OPTIMIZERS = ("encoders_opt", "generator_opt", "discriminator_opt")


# Setting up


@pytest.fixture(scope="module")
def trained_config(tiny_config):
    """Encoders trained in stage 2 too, one discriminator update, EMA."""
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.generator.ssacn_blocks = 2
    # At power 6 the penalty of so small a network is nearly zero.
    config.loss.magp_power = 2.0
    config.train.ema_decay = 0.99
    return config


@pytest.fixture(scope="module")
def frozen_config(trained_config):
    """Frozen encoders, two discriminator updates, "shift", no EMA."""
    config = copy.deepcopy(trained_config)
    config.train.encoders = "frozen"
    config.discriminator.updates = 2
    config.loss.mismatched = "shift"
    config.train.ema_decay = 0.0
    return config


@pytest.fixture(scope="module")
def batches(trained_config, make_batch):
    return [make_batch(trained_config, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def create(trained_config, vocabulary):
    """(seed) to the state before the first step, in numpy."""
    config = copy.deepcopy(trained_config)

    @jax.jit
    def initial(seed):
        with config.ignore_type():
            config.seed = seed
        return state.initial_state(config, vocabulary)

    @functools.cache
    def created(seed):
        first = jax.device_get(initial(seed))
        generator = randomize_zeros(first.generator, 1)
        return first.replace(
            encoders=randomize_zeros(first.encoders, 0),
            generator=generator,
            ema={"params": generator, "batch_stats": first.batch_stats},
            discriminator=randomize_zeros(first.discriminator, 2),
            # This image encoder has no trunk; no step may change this one.
            trunk={"kernel": np.arange(3.0)},
        )

    return created


def start_of_gan_stage(config, vocabulary):
    """The state before the first step of stage 2, in numpy, without zeros that hide gradients."""
    optimizers = build_optimizers(config, 1)
    begin = jax.jit(
        lambda: state.begin_gan_stage(state.initial_state(config, vocabulary), optimizers)
    )
    first = jax.device_get(begin())
    return first.replace(
        encoders=randomize_zeros(first.encoders, 0),
        generator=randomize_zeros(first.generator, 1),
        discriminator=randomize_zeros(first.discriminator, 2),
    )


@contextlib.contextmanager
def precision(double):
    """float64, images included, or float32."""
    if not double:
        yield
        return
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        for module in (damsm_step, gan_step):
            patch.setattr(module, "normalize_images", lambda x: x.astype(float) / 127.5 - 1)
        yield


class Run:
    """Both steps of a config on some devices; states are passed and returned in numpy."""

    def __init__(self, config, vocabulary, devices, double, image_encoder=None):
        self.optimizers = build_optimizers(config, DAMSM_STEPS)
        networks = build_networks(config, vocabulary, pmap.BATCH_AXIS)
        if image_encoder is not None:
            networks = dataclasses.replace(networks, image_encoder=image_encoder)
        context = state.StepContext(config, networks, self.optimizers)
        self.devices, self.double = jax.local_devices()[:devices], double
        with self.here():
            self.pmapped = {
                name: pmap.PmapStep(functools.partial(step, context))
                for name, step in STEPS.items()
            }

    @contextlib.contextmanager
    def here(self):
        with precision(self.double), pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda: self.devices)
            yield

    def take(self, name, current, batch):
        with self.here():
            current = to_float64(current) if self.double else current
            found = self.pmapped[name](pmap.replicate(current), batch)
            return jax.device_get(found[:2])

    def train(self, current, batches):
        """A step of stage 1 on each batch, then one of stage 2 on each: state and all metrics."""
        history = []
        for name in STEPS:
            for batch in batches:
                current, metrics = self.take(name, current, batch)
                history.append(metrics)
            if name == "damsm":
                with self.here():
                    current = jax.device_get(state.begin_gan_stage(current, self.optimizers))
        return current, history


@pytest.fixture(scope="module")
def runs(trained_config, vocabulary):
    """(devices, double) to the compiled steps of the trained config."""
    return functools.cache(functools.partial(Run, trained_config, vocabulary))


@pytest.fixture(scope="module")
def after_training(runs, create, batches):
    """(devices, double) to state and metrics after six steps."""

    @functools.cache
    def train(devices, double):
        return runs(devices, double).train(create(0), batches)

    return train


@pytest.fixture(scope="module")
def gan_start(create, trained_config):
    """The state at the start of stage 2."""
    return jax.device_get(
        state.begin_gan_stage(create(0), build_optimizers(trained_config, DAMSM_STEPS))
    )


def distances(found, wanted):
    """||a - b|| / ||b|| of every tensor, by name."""
    named, _ = jax.tree_util.tree_flatten_with_path(wanted)
    others = jax.tree.leaves(found)
    result = {}
    for (path, b), a in zip(named, others, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        difference, length = np.linalg.norm(a - b), np.linalg.norm(b)
        result[jax.tree_util.keystr(path)] = difference / (length or 1)
    return result


def assert_close(found, wanted, bound):
    far = {name: value for name, value in distances(found, wanted).items() if not value <= bound}
    assert not far


def assert_equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def assert_all_close(found, wanted, bound):
    """Two lists of tensors whose difference as one vector is small.

    For optimizer moments: the gradient of a bias before a normalization is rounding error only.
    """

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    assert_close(flat(found), flat(wanted), bound)


def moments(current, name):
    """Adam's first and second moments; with b1 = 0, as in stage 2, the first is the gradient."""
    chain = getattr(current, name)
    (adam,) = (
        part
        for part in jax.tree.leaves(chain, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(part, "mu")
    )
    return [adam.mu, adam.nu]


def differs(found, wanted):
    return max(distances(found, wanted).values()) > 1e-6


# Plain compositions of the losses, on the whole batch


@pytest.fixture(scope="module")
def plain(trained_config, vocabulary):
    """Compiled gradients of the plain losses, without code of the steps."""
    config = trained_config
    networks = build_networks(config, vocabulary)
    loss = config.loss
    gammas = loss.gamma1, loss.gamma2, loss.gamma3

    def pixels(batch):
        return batch["image"].astype(float) / 127.5 - 1

    def encode_images(encoders, images):
        return networks.image_encoder.apply({"params": encoders["image"]}, images)

    def encode_text(encoders, batch, key, train):
        variables, rngs = {"params": encoders["text"]}, {"dropout": key}
        return networks.text_encoder.apply(
            variables, batch["tokens"], batch["mask"], train, rngs=rngs
        )

    def damsm(images, text, batch):
        terms = losses.damsm_losses(images, text, batch["mask"], batch["class_id"], gammas)
        return terms["words"] + terms["sentences"]

    def encoders(params, batch, key, train):
        def total(params):
            text = encode_text(params, batch, key, train)
            return damsm(encode_images(params, pixels(batch)), text, batch), text

        return jax.grad(total, has_aux=True)(params)

    def generate(params, batch_stats, noise, sentence):
        (images, _), updates = networks.generator.apply(
            {"params": params, "batch_stats": batch_stats},
            noise,
            sentence,
            True,
            mutable=["batch_stats"],
        )
        return images, updates["batch_stats"]

    def logits(params, images, sentence):
        return networks.discriminator.apply({"params": params}, images, sentence)[0]

    def discriminator(params, mismatched, generator, batch_stats, batch, noise, sentence):
        """Gradients of the adversarial loss and of the weighted penalty, and both values."""
        images, (fakes, _) = pixels(batch), generate(generator, batch_stats, noise, sentence)
        pairs = len(images) if mismatched == "roll" else len(images) - 1
        others = jnp.concatenate([sentence[1:], sentence[:1]])[:pairs]

        def adversarial(params):
            real = jnp.maximum(0, 1 - logits(params, images, sentence)).mean()
            wrong = jnp.maximum(0, 1 + logits(params, images[:pairs], others)).mean()
            fake = jnp.maximum(0, 1 + logits(params, fakes, sentence)).mean()
            return real + (wrong + fake) / 2

        def penalty(params):
            def squared_norm(image, sentence):
                gradients = jax.grad(lambda x, s: logits(params, x[None], s[None])[0], (0, 1))
                return sum((part**2).sum() for part in gradients(image, sentence))

            lengths = jax.vmap(squared_norm)(images, sentence) ** 0.5
            return (lengths**loss.magp_power).mean()

        first, adversarial_gradient = jax.value_and_grad(adversarial)(params)
        second, penalty_gradient = jax.value_and_grad(penalty)(params)
        weighted = jax.tree.map(lambda g: loss.magp_weight * g, penalty_gradient)
        return adversarial_gradient, weighted, first, second

    def generator(params, batch_stats, discriminator, encoders, batch, noise, text):
        """Gradient of eq. 4 and 5 in the generator's parameters."""

        def total(params):
            fakes, updated = generate(params, batch_stats, noise, text[1])
            adversarial = -logits(discriminator, fakes, text[1]).mean()
            matching = damsm(encode_images(encoders, fakes), text, batch)
            values = updated, adversarial, matching
            return adversarial + loss.damsm_weight * matching, values

        return jax.grad(total, has_aux=True)(params)

    return {
        "encoders": jax.jit(encoders, static_argnums=3),
        "discriminator": jax.jit(discriminator, static_argnums=1),
        "generator": jax.jit(generator),
    }


def updated(optimizer, gradient, opt, params):
    updates, opt = optimizer.update(gradient, opt)
    return optax.apply_updates(params, updates), opt


def plain_gan_step(plain, config, current, batch):
    """One step of stage 2 from the plain gradients: (state, metrics)."""
    optimizers = build_optimizers(config, DAMSM_STEPS)
    key = jax.random.fold_in(jax.random.wrap_key_data(current.key), current.step)
    dropout_key, noise_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (len(batch["image"]), config.generator.noise_dim))
    trained = config.train.encoders == "trained"
    gradient, text = plain["encoders"](current.encoders, batch, dropout_key, trained)
    encoders, encoders_opt = current.encoders, current.encoders_opt
    if trained:
        encoders, encoders_opt = updated(optimizers.encoders, gradient, encoders_opt, encoders)

    params, opt = current.discriminator, current.discriminator_opt
    inputs = config.loss.mismatched, current.generator, current.batch_stats, batch, noise, text[1]
    adversarial, penalty, *values = plain["discriminator"](params, *inputs)
    if config.discriminator.updates == 1:
        both = jax.tree.map(jnp.add, adversarial, penalty)
        discriminator_gradient = both
        params, opt = updated(optimizers.discriminator, both, opt, params)
    else:
        discriminator_gradient = adversarial
        params, opt = updated(optimizers.discriminator, adversarial, opt, params)
        _, penalty, _, values[1] = plain["discriminator"](params, *inputs)
        params, opt = updated(optimizers.discriminator, penalty, opt, params)

    gradient, (batch_stats, *terms) = plain["generator"](
        current.generator, current.batch_stats, params, encoders, batch, noise, text
    )
    generator, generator_opt = updated(
        optimizers.generator, gradient, current.generator_opt, current.generator
    )
    names = "discriminator/adversarial", "discriminator/magp"
    names += "generator/adversarial", "generator/damsm"
    norms = {
        f"gradient_norm/{name}": np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))
        for name, tree in (("generator", gradient), ("discriminator", discriminator_gradient))
    }
    return current.replace(
        encoders=encoders,
        encoders_opt=encoders_opt,
        generator=generator,
        batch_stats=batch_stats,
        generator_opt=generator_opt,
        discriminator=params,
        discriminator_opt=opt,
    ), norms | dict(zip(names, (*values, *terms), strict=True))


@pytest.fixture(scope="module")
def plain_steps(plain, gan_start, batches):
    """A config to the plain step from the start of stage 2, in float64."""

    def take(config):
        with precision(double=True):
            return jax.device_get(plain_gan_step(plain, config, to_float64(gan_start), batches[0]))

    return take


@pytest.fixture(scope="module")
def frozen_run(frozen_config, vocabulary):
    return Run(frozen_config, vocabulary, devices=4, double=True)


@pytest.fixture(scope="module")
def frozen_step(frozen_run, gan_start, batches):
    return frozen_run.take("gan", gan_start.replace(ema=None), batches[0])


def assert_same_step(found, wanted):
    """States after one step: gradients (the optimizers' moments), parameters and metrics."""
    for name in NETWORKS:
        assert_close(getattr(found[0], name), getattr(wanted[0], name), 1e-9)
    for name in OPTIMIZERS:
        assert_all_close(moments(found[0], name), moments(wanted[0], name), 1e-9)
    for name, value in wanted[1].items():
        assert found[1][name] == pytest.approx(value, rel=1e-9), name


# Stage 1


def test_damsm_step_lowers_damsm(runs, create, batches):
    current, history = create(0), []
    for _ in range(DAMSM_STEPS):
        current, metrics = runs(1, False).take("damsm", current, batches[0])
        history.append(sum(metrics.values()))
    assert current.step == DAMSM_STEPS
    assert np.mean(history[-3:]) < 0.9 * np.mean(history[:3])
    for name in ("generator", "batch_stats", "discriminator", "ema"):
        assert_equal(getattr(current, name), getattr(create(0), name))


class Averager(nn.Module):
    """An image encoder whose trunk is the running mean of each channel, which it subtracts."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images):
        kept = self.variable("trunk", "mean", jnp.zeros, (3,))
        if self.is_mutable_collection("trunk") and not self.is_initializing():
            _, (found, _) = layers.normalize_by_batch(images, 0.0, self.axis_name)
            kept.value = 0.9 * kept.value + 0.1 * found
        small = (images - kept.value[None, None, None])[:, ::4, ::4].reshape(len(images), -1, 3)
        return nn.Dense(16, name="regions")(small), nn.Dense(16, name="code")(small.mean(1))


@pytest.mark.parametrize(("statistics", "moves"), [("batch", True), ("running", False)])
def test_the_trunk_is_updated_with_statistics_of_the_batch(
    trained_config, vocabulary, create, batches, statistics, moves
):
    config = copy.deepcopy(trained_config)
    config.image_encoder.statistics = statistics
    image_encoder = Averager(pmap.BATCH_AXIS)
    run = Run(config, vocabulary, devices=4, double=False, image_encoder=image_encoder)
    pixels = batches[0]["image"] / 127.5 - 1
    variables = jax.device_get(Averager().init(jax.random.key(0), pixels))
    first = create(0)
    encoders = first.encoders | {"image": variables["params"]}
    optimizer = run.optimizers.damsm.init(encoders)
    first = first.replace(encoders=encoders, encoders_opt=optimizer, trunk=variables["trunk"])
    after, _ = run.take("damsm", first, batches[0])
    wanted = 0.1 * pixels.mean((0, 1, 2)) if moves else np.zeros(3)
    np.testing.assert_allclose(after.trunk["mean"], wanted, atol=1e-7)
    # Stage 2 encodes the real images, then the generated ones.
    begun = jax.device_get(state.begin_gan_stage(after, run.optimizers))
    later, _ = run.take("gan", begun, batches[0])
    once = 0.9 * wanted + wanted
    if moves:
        assert np.abs(later.trunk["mean"] - once).max() > 1e-3
        assert np.abs((later.trunk["mean"] - 0.9 * once) / 0.1).max() < 1
    else:
        assert_equal(later.trunk, first.trunk)


# Devices


@pytest.mark.parametrize(("double", "bound"), [(True, 1e-9), (False, 1e-4)])
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_change_nothing(after_training, measured, devices, double, bound):
    (found, history), (wanted, metrics) = (after_training(n, double) for n in (devices, 1))
    kind = "float64" if double else "float32"

    def compare(part, found, wanted):
        for figure in distances(found, wanted).values():
            measured(f"3 + 3 steps, {kind}, {part}", f"{devices} devices and 1", figure, bound)

    for name in (*NETWORKS, "ema"):
        compare("every tensor", getattr(found, name), getattr(wanted, name))
    compare("every loss", history, metrics)
    if double:
        for name in OPTIMIZERS:
            assert_all_close(moments(found, name), moments(wanted, name), 1e-9)


@pytest.mark.parametrize(
    ("size", "microbatches", "weight", "problem"),
    [
        (8, 1, 0.0, None),
        (6, 1, 0.0, "batch_size=6: .* 4 devices of this run; use 4 or 8"),
        (2, 1, 0.0, "batch_size=2: .* 4 devices .*; use 4$"),
        (16, 2, 0.0, None),
        (
            12,
            2,
            0.0,
            "batch_size=12: .* 4 devices .* times config.train.grad_acc.*=2; use 8 or 16",
        ),
        (16, 2, 0.5, None),
        (12, 1, 0.5, "batch_size=12: .* run times 2, since config.loss.div.*=0.5; use 8 or 16"),
    ],
)
def test_devices_and_microbatches_must_divide_the_batch(
    tiny_config, size, microbatches, weight, problem
):
    config = copy.deepcopy(tiny_config)
    config.train.batch_size, config.train.grad_accumulation_steps = size, microbatches
    config.loss.diversity_weight = weight
    if problem is None:
        pmap.check_batch_size(config)
    else:
        with pytest.raises(pmap.DeviceError, match=problem):
            pmap.check_batch_size(config)


# Seeds


def test_same_seed_same_bits(runs, after_training, create, batches):
    again = runs(1, False).train(create(0), batches)
    assert_equal(again, after_training(1, False))


def test_other_seed_other_weights_and_noise(runs, create, gan_start, batches):
    other = create(1)
    for name in ("encoders", "generator", "discriminator"):
        assert differs(getattr(other, name), getattr(create(0), name))
    wanted, metrics = runs(1, False).take("gan", gan_start, batches[0])
    found, _ = runs(1, False).take("gan", gan_start.replace(key=other.key), batches[0])
    later, _ = runs(1, False).take("gan", gan_start.replace(step=np.int32(7)), batches[0])
    for name in ("encoders", "generator", "discriminator"):
        assert differs(getattr(found, name), getattr(wanted, name))
        assert differs(getattr(later, name), getattr(wanted, name))


# Stage 2


def test_trained_step_is_the_plain_losses(runs, gan_start, plain_steps, trained_config, batches):
    assert_same_step(runs(1, True).take("gan", gan_start, batches[0]), plain_steps(trained_config))


def test_frozen_step_with_two_updates_is_the_plain_losses(
    frozen_step, plain_steps, frozen_config, gan_start
):
    assert_same_step(frozen_step, plain_steps(frozen_config))
    once = copy.deepcopy(frozen_config)
    once.discriminator.updates = 1
    assert differs(plain_steps(once)[0].discriminator, frozen_step[0].discriminator)


def test_frozen_encoders_and_the_trunk_do_not_change(after_training, frozen_step, gan_start):
    for name in ("encoders", "encoders_opt"):
        assert_equal(getattr(frozen_step[0], name), to_float64(getattr(gan_start, name)))
    for current in (after_training(4, False)[0], frozen_step[0]):
        np.testing.assert_array_equal(current.trunk["kernel"], gan_start.trunk["kernel"])


def test_adversarial_losses_never_reach_the_encoders(runs, gan_start, create, batches):
    """Only DAMSM trains them: with another generator and discriminator their update is the same."""
    run, second = runs(1, True), create(1)
    wanted, _ = run.take("gan", gan_start, batches[0])
    other = gan_start.replace(generator=second.generator, discriminator=second.discriminator)
    found, _ = run.take("gan", other, batches[0])
    assert differs(found.generator, wanted.generator)
    assert_equal(found.encoders, wanted.encoders)
    for name, encoder in wanted.encoders.items():
        assert differs(encoder, gan_start.encoders[name])


def test_ema_follows_the_generator(runs, gan_start, batches, frozen_step):
    current, _ = runs(1, True).take("gan", gan_start, batches[0])
    # The decay of a first step is (1 + 0) / (10 + 0), since the config's 0.99 is above it.
    fresh = {"params": current.generator, "batch_stats": current.batch_stats}
    wanted = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, gan_start.ema, fresh)
    assert_close(current.ema, wanted, 1e-6)
    assert_equal(state.sampling_variables(current), current.ema)
    assert frozen_step[0].ema is None
    assert_equal(
        state.sampling_variables(frozen_step[0]),
        {"params": frozen_step[0].generator, "batch_stats": frozen_step[0].batch_stats},
    )


class PairTable:
    """A discriminator whose logit is params[image, caption]: its gradient shows the pairs.

    An image's first pixel, times 100, is its number; a sentence is one-hot.
    """

    def features(self, images):
        numbers = jnp.round(100 * images[:, 0, 0, 0]).astype(int)
        return jax.nn.one_hot(numbers, 16)

    def apply(self, variables, images, sentence, method=None):
        features = images if method == "logits" else self.features(images)
        repeated = jnp.repeat(features, len(sentence) // len(features), 0)
        logits = jnp.einsum("bp,pc,bc->b", repeated, variables["params"], sentence)
        return logits if method == "logits" else (logits, features)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("mismatched", ["roll", "shift"])
@pytest.mark.parametrize("num", [1, 3])
def test_captions_of_the_discriminator(trained_config, gan_start, devices, mismatched, num):
    """Real with its own, real with the next ones' of the GLOBAL batch, generated with own."""
    networks = Networks(None, None, None, PairTable(), axis_name="batch")
    optimizers = Optimizers(None, None, None, optax.sgd(1.0))
    config = copy.deepcopy(trained_config)
    config.loss.mismatched, config.loss.num_mismatched = mismatched, num
    if devices == 1:
        config.train.grad_accumulation_steps = 2
    context = state.StepContext(config, networks, optimizers)

    def gradient(rows):
        current = gan_start.replace(
            discriminator=jnp.zeros((16, 8)), discriminator_opt=optimizers.discriminator.init(0)
        )
        images = rows["number"].reshape(-1, 1, 1, 1) * jnp.full((1, 2, 2, 3), 0.01)
        sentence = jax.nn.one_hot(rows["number"], 8)
        current, _ = update_discriminator(
            context, current, images, images + 0.08, sentence[:, None], sentence
        )
        return -current.discriminator

    numbers = {"number": np.arange(8).reshape(devices, -1)}
    found = jax.pmap(gradient, axis_name="batch", devices=jax.devices()[:devices])(numbers)
    wanted = np.zeros((16, 8))
    for image in range(8):
        wanted[image, image] -= 1 / 8
        wanted[8 + image, image] += 1 / 16
    for offset in range(1, num + 1):
        pairs = 8 - offset if mismatched == "shift" else 8
        for image in range(pairs):
            wanted[image, (image + offset) % 8] += 1 / (2 * pairs * num)
    np.testing.assert_allclose(found, np.stack([wanted] * devices), atol=1e-6)


def test_nearest_captions_of_the_batch(trained_config, gan_start):
    config = copy.deepcopy(trained_config)
    config.loss.mismatched, config.loss.num_mismatched = "nearest", 2
    context = state.StepContext(config, Networks(None, None, None, None, "batch"), None)
    angles = np.array([0.0, 0.1, 1.2, 0.0, 2.0, 2.1, 2.3, 3.3])  # 0 and 3: the same caption twice
    lengths = np.arange(1, 9)
    sentence = (lengths * np.array([np.cos(angles), np.sin(angles)])).T

    def chosen(rows, queue=None):
        def choose(sentence):
            current = gan_start.replace(sentence_queue=queue)
            own = sentence[:, None]
            return choose_mismatched(context, own, known_sentences(context, current, own))

        return jax.vmap(choose, axis_name="batch")(rows)

    for devices in (1, 4):
        rows = sentence.reshape(devices, -1, 2)
        found, _ = chosen(rows)
        lengths_found = np.linalg.norm(found.reshape(8, 2, 2), axis=-1).round()
        wanted = [{2, 3}, {1, 4}, {5, 6}, {2, 3}, {6, 7}, {5, 7}, {5, 6}, {6, 7}]
        assert [set(pair) for pair in lengths_found] == wanted
        # From a queue: one near to the first ones, and zeros, which stand for none.
        queue = np.zeros((3, 2))
        queue[1] = 9 * np.array([np.cos(-0.05), np.sin(-0.05)])
        found, weights = chosen(rows, queue)
        lengths_found = np.linalg.norm(found.reshape(8, 2, 2), axis=-1).round()
        wanted[0] = wanted[3] = {2, 9}
        assert [set(pair) for pair in lengths_found] == wanted
        assert (weights == 1).all() and weights.size == 16
        # All captions but one are copies of one: a copy is no mismatched caption.
        copies = np.where(np.arange(8)[:, None] == 5, sentence[5], sentence[0])
        _, weights = chosen(copies.reshape(devices, -1, 2))
        weights = weights.reshape(8, 2)
        assert (weights.sum(1) == np.where(np.arange(8) == 5, 2, 1)).all()


class LinearDiscriminator:
    """A discriminator <a, x> + <b, s>, whose MA-GP is (|a|^2 + |b|^2)^(p / 2) everywhere."""

    def apply(self, variables, images, sentence, method=None):
        a, b = variables["params"]
        if method == "logits":
            return images + sentence @ b
        features = jnp.einsum("bhwc,hwc->b", images, a)
        return features + sentence @ b, features


@pytest.mark.parametrize(("norm", "length"), [("joint", 13.0), ("sum", 17.0)])
def test_penalty_of_a_linear_discriminator(trained_config, make_batch, norm, length):
    config = copy.deepcopy(trained_config)
    config.loss.magp_norm, config.loss.magp_power, config.loss.magp_weight = norm, 3.0, 5.0
    networks = Networks(None, None, None, LinearDiscriminator())
    context = state.StepContext(config, networks, optimizers=None)
    a, b = np.zeros((2, 2, 3), np.float32), np.array([12, 0], np.float32)
    a[0, 1, 0], a[1, 0, 2] = 3, 4
    rng = np.random.default_rng(0)
    images, fakes = rng.normal(size=(2, 8, 2, 2, 3)).astype(np.float32)
    sentence = rng.normal(size=(8, 2)).astype(np.float32)
    own = sentence[:, None]
    mismatched = choose_mismatched(context, own, sentence)
    inputs = DiscriminatorInputs(images, fakes, own, sentence, *mismatched)
    adversarial, weighted, metrics = discriminator_loss((a, b), context, inputs, sentence)
    assert metrics["discriminator/magp"] == pytest.approx(length**3, rel=1e-5)
    assert weighted == pytest.approx(5 * length**3, rel=1e-5)

    def logits(images, sentence):
        return (images * a).sum((1, 2, 3)) + sentence @ b

    real, fake = logits(images, sentence), logits(fakes, sentence)
    wrong = logits(images, np.roll(sentence, -1, 0))
    wanted = np.maximum(0, 1 - real).mean()
    wanted += (np.maximum(0, 1 + fake).mean() + np.maximum(0, 1 + wrong).mean()) / 2
    assert adversarial == pytest.approx(wanted, rel=1e-5)
    for name, values in (("real", real), ("generated", fake), ("mismatched", wrong)):
        assert metrics[f"discriminator/{name}"] == pytest.approx(values.mean(), rel=1e-4)
