"""Both training steps: against plain compositions of their losses, and on 1, 2 and 4 devices.

The comparisons run in float64, where two orders of the same sums agree to 1e-9 and nothing hides
behind rounding; what users run, float32, is compared across devices too.
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
from trees import awake, doubled

from ssagan_jax.models import layers
from ssagan_jax.steps import losses, pmap, state, train_steps
from ssagan_jax.steps.network_losses import NetworkLosses
from ssagan_jax.steps.networks import Networks, build_networks
from ssagan_jax.steps.optimizers import Optimizers, build_optimizers

DAMSM_STEPS = 20
NETWORKS = ("encoders", "generator", "batch_stats", "discriminator")
OPTIMIZERS = ("encoders_opt", "generator_opt", "discriminator_opt")


# Setting up


@pytest.fixture(scope="module")
def trained_config(tiny_config):
    """Encoders trained beside the GAN, one discriminator update, averaged weights."""
    config = copy.deepcopy(tiny_config)
    config.data.image_size = 16
    config.generator.ssacn_blocks = 2
    # At power 6 the penalty of so small a network is too flat to be seen.
    config.loss.magp_power = 2.0
    config.train.ema_decay = 0.99
    return config


@pytest.fixture(scope="module")
def frozen_config(trained_config):
    """Frozen encoders, two discriminator updates, no wrong caption for the last, no averages."""
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
    networks = build_networks(config, vocabulary)
    optimizers = build_optimizers(config, DAMSM_STEPS)

    @jax.jit
    def initial(seed):
        with config.ignore_type():
            config.seed = seed
        return state.create_state(config, networks, optimizers)

    @functools.cache
    def created(seed):
        first = jax.device_get(initial(seed))
        generator = awake(first.generator, 1)
        return first.replace(
            encoders=awake(first.encoders, 0),
            generator=generator,
            average={"params": generator, "batch_stats": first.batch_stats},
            discriminator=awake(first.discriminator, 2),
            # This image encoder has none, so one that nothing may touch.
            trunk={"kernel": np.arange(3.0)},
        )

    return created


@contextlib.contextmanager
def precision(double):
    """float64, pictures included, or jax's float32."""
    if not double:
        yield
        return
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr(train_steps, "to_unit_range", lambda pixels: pixels.astype(float) / 127.5 - 1)
        yield


class Run:
    """Both steps of a config, compiled for so many devices; takes and gives states in numpy."""

    def __init__(self, config, vocabulary, devices, double, image_encoder=None):
        self.optimizers = build_optimizers(config, DAMSM_STEPS)
        networks = build_networks(config, vocabulary, pmap.BATCH_AXIS)
        if image_encoder is not None:
            networks = dataclasses.replace(networks, image_encoder=image_encoder)
        self.steps = train_steps.TrainSteps(config, networks, self.optimizers, pmap.BATCH_AXIS)
        self.devices, self.double = jax.local_devices()[:devices], double
        with self.here():
            self.parallel = {
                name: pmap.PmapStep(getattr(self.steps, name)) for name in ("encoders", "gan")
            }

    @contextlib.contextmanager
    def here(self):
        with precision(self.double), pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda: self.devices)
            yield

    def take(self, name, current, batch):
        with self.here():
            current = doubled(current) if self.double else current
            found = self.parallel[name](pmap.replicate(current), batch)
            return jax.device_get(found[:2])

    def train(self, current, batches):
        """A step of stage 1 on each batch, then one of stage 2 on each: state and all metrics."""
        history = []
        for name in ("encoders", "gan"):
            for batch in batches:
                current, metrics = self.take(name, current, batch)
                history.append(metrics)
            if name == "encoders":
                with self.here():
                    current = jax.device_get(state.begin_gan_stage(current, self.optimizers))
        return current, history


@pytest.fixture(scope="module")
def runs(trained_config, vocabulary):
    """(devices, double) to the compiled steps of the trained config."""
    return functools.cache(functools.partial(Run, trained_config, vocabulary))


@pytest.fixture(scope="module")
def after_training(runs, create, batches):
    """(devices, double) to state and metrics behind six steps."""

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

    For the optimizers' moments: a bias in front of a normalization has no gradient but rounding.
    """

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    assert_close(flat(found), flat(wanted), bound)


def moments(current, name):
    """Adam's first and second moments; with b1=0, as in stage 2, the first is the gradient."""
    chain = getattr(current, name)
    (adam,) = (
        part
        for part in jax.tree.leaves(chain, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(part, "mu")
    )
    return [adam.mu, adam.nu]


def differs(found, wanted):
    return max(distances(found, wanted).values()) > 1e-6


# Plain compositions of the losses, in one piece, on the whole batch


@pytest.fixture(scope="module")
def plain(trained_config, vocabulary):
    """Compiled gradients of the plain losses; none of the steps' own code."""
    config = trained_config
    networks = build_networks(config, vocabulary)
    loss = config.loss
    gammas = loss.gamma1, loss.gamma2, loss.gamma3

    def pixels(batch):
        return batch["image"].astype(float) / 127.5 - 1

    def look(encoders, images):
        return networks.image_encoder.apply({"params": encoders["image"]}, images)

    def read(encoders, batch, key, train):
        variables, rngs = {"params": encoders["text"]}, {"dropout": key}
        return networks.text_encoder.apply(
            variables, batch["tokens"], batch["mask"], train, rngs=rngs
        )

    def damsm(seen, text, batch):
        terms = losses.damsm_losses(seen, text, batch["mask"], batch["class_id"], gammas)
        return terms["words"] + terms["sentences"]

    def encoders(params, batch, key, train):
        def total(params):
            text = read(params, batch, key, train)
            return damsm(look(params, pixels(batch)), text, batch), text

        return jax.grad(total, has_aux=True)(params)

    def paint(params, batch_stats, noise, sentence):
        (images, _), updates = networks.generator.apply(
            {"params": params, "batch_stats": batch_stats},
            noise,
            sentence,
            True,
            mutable=["batch_stats"],
        )
        return images, updates["batch_stats"]

    def judge(params, images, sentence):
        return networks.discriminator.apply({"params": params}, images, sentence)[0]

    def discriminator(params, mismatched, generator, batch_stats, batch, noise, sentence):
        """Gradients of the adversarial loss and of the weighted penalty, and both values."""
        images, (fakes, _) = pixels(batch), paint(generator, batch_stats, noise, sentence)
        pairs = len(images) if mismatched == "roll" else len(images) - 1
        others = jnp.concatenate([sentence[1:], sentence[:1]])[:pairs]

        def adversarial(params):
            real = jnp.maximum(0, 1 - judge(params, images, sentence)).mean()
            wrong = jnp.maximum(0, 1 + judge(params, images[:pairs], others)).mean()
            fake = jnp.maximum(0, 1 + judge(params, fakes, sentence)).mean()
            return real + (wrong + fake) / 2

        def penalty(params):
            def squared_norm(image, sentence):
                gradients = jax.grad(lambda x, s: judge(params, x[None], s[None])[0], (0, 1))
                return sum((part**2).sum() for part in gradients(image, sentence))

            lengths = jax.vmap(squared_norm)(images, sentence) ** 0.5
            return (lengths**loss.magp_power).mean()

        first, adversarial_gradient = jax.value_and_grad(adversarial)(params)
        second, penalty_gradient = jax.value_and_grad(penalty)(params)
        weighted = jax.tree.map(lambda g: loss.magp_weight * g, penalty_gradient)
        return adversarial_gradient, weighted, first, second

    def generator(params, batch_stats, discriminator, encoders, batch, noise, text):
        """Gradient of the whole of eq. 4 and 5 in the generator's parameters."""

        def total(params):
            fakes, updated = paint(params, batch_stats, noise, text[1])
            adversarial = -judge(discriminator, fakes, text[1]).mean()
            matching = damsm(look(encoders, fakes), text, batch)
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

    judged = current.discriminator, current.discriminator_opt
    painter = config.loss.mismatched, current.generator, current.batch_stats, batch, noise, text[1]
    adversarial, penalty, *values = plain["discriminator"](judged[0], *painter)
    if config.discriminator.updates == 1:
        both = jax.tree.map(jnp.add, adversarial, penalty)
        judged = updated(optimizers.discriminator, both, judged[1], judged[0])
    else:
        judged = updated(optimizers.discriminator, adversarial, judged[1], judged[0])
        _, penalty, _, values[1] = plain["discriminator"](judged[0], *painter)
        judged = updated(optimizers.discriminator, penalty, judged[1], judged[0])

    gradient, (batch_stats, *terms) = plain["generator"](
        current.generator, current.batch_stats, judged[0], encoders, batch, noise, text
    )
    generator, generator_opt = updated(
        optimizers.generator, gradient, current.generator_opt, current.generator
    )
    names = "discriminator/adversarial", "discriminator/magp"
    names += "generator/adversarial", "generator/damsm"
    return current.replace(
        encoders=encoders,
        encoders_opt=encoders_opt,
        generator=generator,
        batch_stats=batch_stats,
        generator_opt=generator_opt,
        discriminator=judged[0],
        discriminator_opt=judged[1],
    ), dict(zip(names, (*values, *terms), strict=True))


@pytest.fixture(scope="module")
def plain_steps(plain, gan_start, batches):
    """A config to the plain step from the start of stage 2, in float64."""

    def take(config):
        with precision(double=True):
            return jax.device_get(plain_gan_step(plain, config, doubled(gan_start), batches[0]))

    return take


@pytest.fixture(scope="module")
def frozen_run(frozen_config, vocabulary):
    return Run(frozen_config, vocabulary, devices=4, double=True)


@pytest.fixture(scope="module")
def frozen_step(frozen_run, gan_start, batches):
    return frozen_run.take("gan", gan_start.replace(average=None), batches[0])


def assert_same_step(found, wanted):
    """States behind one step: gradients (the optimizers' moments), parameters and metrics."""
    for name in NETWORKS:
        assert_close(getattr(found[0], name), getattr(wanted[0], name), 1e-9)
    for name in OPTIMIZERS:
        assert_all_close(moments(found[0], name), moments(wanted[0], name), 1e-9)
    for name, value in wanted[1].items():
        assert found[1][name] == pytest.approx(value, rel=1e-9), name


# Stage 1


def test_encoders_step_lowers_damsm(runs, create, batches):
    current, history = create(0), []
    for _ in range(DAMSM_STEPS):
        current, metrics = runs(1, False).take("encoders", current, batches[0])
        history.append(sum(metrics.values()))
    assert current.step == DAMSM_STEPS
    assert np.mean(history[-3:]) < 0.9 * np.mean(history[:3])
    for name in ("generator", "batch_stats", "discriminator", "average"):
        assert_equal(getattr(current, name), getattr(create(0), name))


class Averager(nn.Module):
    """An image encoder whose trunk is the running mean of a channel, which it subtracts."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images):
        kept = self.variable("trunk", "mean", jnp.zeros, (3,))
        if self.is_mutable_collection("trunk") and not self.is_initializing():
            _, (found, _) = layers.normalize_by_batch(images, 0.0, self.axis_name)
            kept.value = 0.9 * kept.value + 0.1 * found
        small = (images - kept.value[None, None, None])[:, ::4, ::4].reshape(len(images), -1, 3)
        return nn.Dense(16, name="regions")(small), nn.Dense(16, name="code")(small.mean(1))


@pytest.mark.parametrize(("statistics", "moves"), [("batch", True), ("kept", False)])
def test_the_trunk_follows_the_global_batch_if_asked(
    trained_config, vocabulary, create, batches, statistics, moves
):
    config = copy.deepcopy(trained_config)
    config.image_encoder.statistics = statistics
    looker = Averager(pmap.BATCH_AXIS)
    run = Run(config, vocabulary, devices=4, double=False, image_encoder=looker)
    pixels = batches[0]["image"] / 127.5 - 1
    variables = jax.device_get(Averager().init(jax.random.key(0), pixels))
    first = create(0)
    encoders = first.encoders | {"image": variables["params"]}
    optimizer = run.optimizers.damsm.init(encoders)
    first = first.replace(encoders=encoders, encoders_opt=optimizer, trunk=variables["trunk"])
    after, _ = run.take("encoders", first, batches[0])
    wanted = 0.1 * pixels.mean((0, 1, 2)) if moves else np.zeros(3)
    np.testing.assert_allclose(after.trunk["mean"], wanted, atol=1e-7)
    # Stage 2 looks at the real pictures and at the painted ones.
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

    for name in (*NETWORKS, "average"):
        compare("every tensor", getattr(found, name), getattr(wanted, name))
    compare("every loss", history, metrics)
    if double:
        for name in OPTIMIZERS:
            assert_all_close(moments(found, name), moments(wanted, name), 1e-9)


def test_devices_must_share_the_batch_evenly():
    pmap.check_batch_size(8)
    with pytest.raises(
        pmap.DeviceError, match="batch_size=6: .* 4 devices of this run; 4 or 8 would"
    ):
        pmap.check_batch_size(6)
    with pytest.raises(pmap.DeviceError, match="batch_size=2: .* 4 devices .*; 4 would"):
        pmap.check_batch_size(2)


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


def test_frozen_encoders_stay(frozen_step, gan_start):
    for name in ("encoders", "encoders_opt"):
        assert_equal(getattr(frozen_step[0], name), doubled(getattr(gan_start, name)))


def test_trunk_stays(after_training, frozen_step, gan_start):
    for current in (after_training(4, False)[0], frozen_step[0]):
        np.testing.assert_array_equal(current.trunk["kernel"], gan_start.trunk["kernel"])


def test_adversarial_losses_never_reach_the_encoders(runs, gan_start, create, batches):
    """Only DAMSM trains them: another generator and discriminator change nothing for them."""
    run, stranger = runs(1, True), create(1)
    wanted, _ = run.take("gan", gan_start, batches[0])
    other = gan_start.replace(generator=stranger.generator, discriminator=stranger.discriminator)
    found, _ = run.take("gan", other, batches[0])
    assert differs(found.generator, wanted.generator)
    assert_equal(found.encoders, wanted.encoders)
    for name, encoder in wanted.encoders.items():
        assert differs(encoder, gan_start.encoders[name])


def test_average_follows_the_generator(runs, gan_start, batches, frozen_step):
    current, _ = runs(1, True).take("gan", gan_start, batches[0])
    # The decay of a first step is (1 + 0) / (10 + 0), since the config's 0.99 is above it.
    fresh = {"params": current.generator, "batch_stats": current.batch_stats}
    wanted = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, gan_start.average, fresh)
    assert_close(current.average, wanted, 1e-6)
    assert_equal(state.sampling_variables(current), current.average)
    assert frozen_step[0].average is None
    assert_equal(
        state.sampling_variables(frozen_step[0]),
        {"params": frozen_step[0].generator, "batch_stats": frozen_step[0].batch_stats},
    )


class PairTable:
    """A discriminator whose logit is params[picture, caption]: its gradient shows who meets whom.

    A picture's first pixel, times 100, is its number; a sentence is one-hot.
    """

    def features(self, images):
        numbers = jnp.round(100 * images[:, 0, 0, 0]).astype(int)
        return jax.nn.one_hot(numbers, 16)

    def apply(self, variables, images, sentence, method=None):
        features = images if method == "logits" else self.features(images)
        logits = jnp.einsum("bp,pc,bc->b", features, variables["params"], sentence)
        return logits if method == "logits" else (logits, features)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize(("mismatched", "pairs"), [("roll", 8), ("shift", 7)])
def test_captions_of_the_discriminator(trained_config, gan_start, devices, mismatched, pairs):
    """Real with its own, real with the next one's of the GLOBAL batch, generated with own."""
    networks = Networks(None, None, None, PairTable())
    optimizers = Optimizers(None, None, None, optax.sgd(1.0))
    config = copy.deepcopy(trained_config)
    config.loss.mismatched = mismatched
    both = train_steps.TrainSteps(config, networks, optimizers, "batch")

    def gradient(rows):
        current = gan_start.replace(
            discriminator=jnp.zeros((16, 8)), discriminator_opt=optimizers.discriminator.init(0)
        )
        pictures = rows["number"].reshape(-1, 1, 1, 1) * jnp.full((1, 2, 2, 3), 0.01)
        sentence = jax.nn.one_hot(rows["number"], 8)
        current, _ = both._update_discriminator(current, pictures, pictures + 0.08, sentence)
        return -current.discriminator

    numbers = {"number": np.arange(8).reshape(devices, -1)}
    found = jax.pmap(gradient, axis_name="batch", devices=jax.devices()[:devices])(numbers)
    wanted = np.zeros((16, 8))
    for picture in range(8):
        wanted[picture, picture] -= 1 / 8
        wanted[8 + picture, picture] += 1 / 16
    for picture in range(pairs):
        wanted[picture, (picture + 1) % 8] += 1 / (2 * pairs)
    np.testing.assert_allclose(found, np.stack([wanted] * devices), atol=1e-6)


class LinearJudge:
    """A discriminator <a, x> + <b, s>, whose MA-GP is (|a|^2 + |b|^2)^(p / 2) everywhere."""

    def apply(self, variables, images, sentence, method=None):
        a, b = variables["params"]
        if method == "logits":
            return images + sentence @ b
        seen = jnp.einsum("bhwc,hwc->b", images, a)
        return seen + sentence @ b, seen


@pytest.mark.parametrize(("norm", "length"), [("joint", 13.0), ("sum", 17.0)])
def test_penalty_of_a_linear_discriminator(trained_config, make_batch, norm, length):
    config = copy.deepcopy(trained_config)
    config.loss.magp_norm, config.loss.magp_power, config.loss.magp_weight = norm, 3.0, 5.0
    both = NetworkLosses(config, Networks(None, None, None, LinearJudge()))
    a, b = np.zeros((2, 2, 3), np.float32), np.array([12, 0], np.float32)
    a[0, 1, 0], a[1, 0, 2] = 3, 4
    rng = np.random.default_rng(0)
    images, fakes = rng.normal(size=(2, 8, 2, 2, 3)).astype(np.float32)
    sentence = rng.normal(size=(8, 2)).astype(np.float32)
    mismatched = both.mismatched(sentence)
    adversarial, weighted, metrics = both.judging((a, b), images, fakes, sentence, mismatched)
    assert metrics["discriminator/magp"] == pytest.approx(length**3, rel=1e-5)
    assert weighted == pytest.approx(5 * length**3, rel=1e-5)

    def judged(images, sentence):
        return (images * a).sum((1, 2, 3)) + sentence @ b

    real, fake = judged(images, sentence), judged(fakes, sentence)
    wrong = judged(images, np.roll(sentence, -1, 0))
    wanted = np.maximum(0, 1 - real).mean()
    wanted += (np.maximum(0, 1 + fake).mean() + np.maximum(0, 1 + wrong).mean()) / 2
    assert adversarial == pytest.approx(wanted, rel=1e-5)
    for name, logits in (("real", real), ("generated", fake), ("mismatched", wrong)):
        assert metrics[f"discriminator/{name}"] == pytest.approx(logits.mean(), rel=1e-4)
