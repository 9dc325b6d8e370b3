"""Keys for training on little data: each against its formula, on one device and on several."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssagan_jax.models.diff_augment import apply_transforms, draw_transforms
from ssagan_jax.steps import generator_update, losses, state
from ssagan_jax.steps.ema import ema_decay, has_ema
from ssagan_jax.steps.encoder_update import EncodedPairs
from ssagan_jax.steps.gan_step import gan_step
from ssagan_jax.steps.networks import Networks
from ssagan_jax.steps.optimizers import Optimizers

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
    """A logit that is linear in image and sentence; features are the image's part.

    Its similarities are products of both parts.
    """

    def features(self, params, images):
        return jnp.einsum("bhwc,hwc->b", images, params["image"])

    def apply(self, variables, images, sentence, others=None, method=None):
        params = variables["params"]
        if method == "cosines":
            products = [rows @ params["sentence"] for rows in (sentence, others)]
            return images[:, None] * products[0], jnp.outer(images, products[1])
        features = images if method == "logits" else self.features(params, images)
        products = sentence @ params["sentence"]
        logits = jnp.repeat(features, len(products) // len(features)) + products
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
    encoded = EncodedPairs(text, np.ones(ROWS))
    batch = {"mask": np.ones((ROWS, 2), bool), "class_id": np.arange(ROWS)}
    total, (_, metrics) = generator_update.generator_loss(
        normal(4, ROWS, SIZE, SIZE, 3), context, current, {}, batch, encoded
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


@pytest.mark.parametrize(("half_life", "decay"), [(1000, 0.5 ** (8 / 1000)), (0, 0.9)])
def test_an_average_that_training_starts_from_is_kept(tiny_config, half_life, decay):
    config = changed(tiny_config, train__ema_half_life=half_life, train__ema_decay=0.9)
    assert ema_decay(config, jnp.int32(0)) < decay
    config.train.checkpoint = "runs/other"
    assert ema_decay(config, jnp.int32(0)) == pytest.approx(decay, abs=1e-6)


def paint(noise, generator):
    return jnp.tanh(jnp.einsum("bn,nhwc->bhwc", noise, generator))


class Painter:
    """A generator that is linear in the noise, up to a tanh."""

    def apply(self, variables, noise, sentence, train, mutable):
        return (paint(noise, variables["params"]), None), {"batch_stats": {}}


class Reader:
    """Words of a table; a sentence is their mean."""

    def apply(self, variables, tokens, mask, train, rngs=None):
        words = variables["params"]["table"][tokens]
        return words, words.mean(1)


RATE = 0.1
BATCH = {
    "image": np.random.default_rng(5).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8),
    "tokens": np.arange(16, dtype=np.int32).reshape(8, 2),
    "mask": np.ones((8, 2), bool),
    "class_id": np.arange(8, dtype=np.int32),
}
ADAM = optax.flatten(optax.adam(1e-3))
OPTIMIZERS = Optimizers(None, optax.sgd(RATE), ADAM, optax.sgd(RATE))


@pytest.fixture(scope="module")
def begun(params):
    """The state before a step of stage 2 of networks that are linear."""
    encoders, generator = {"text": {"table": normal(7, 16, 3)}, "image": {}}, normal(8, 8, 8, 8, 3)
    return state.TrainState(
        step=jnp.int32(3),
        key=jax.random.key_data(jax.random.key(0)),
        encoders=encoders,
        trunk={},
        encoders_opt=OPTIMIZERS.encoders.init(encoders),
        generator=generator,
        batch_stats={},
        generator_opt=OPTIMIZERS.generator.init(generator),
        ema=None,
        discriminator=params,
        discriminator_opt=OPTIMIZERS.discriminator.init(params),
    )


def take(config, current, devices=1, painter=None, batch=BATCH, **options):
    """State and metrics after a GAN step of the linear networks."""
    networks = (Reader(), PoolingEncoder(), painter or Painter(), LinearDiscriminator())
    linear = Networks(*networks, "batch")
    context = state.StepContext(config, linear, OPTIMIZERS, **options)
    step = functools.partial(gan_step, context)
    rows = {name: np.reshape(x, (devices, -1, *x.shape[1:])) for name, x in batch.items()}
    mapped = jax.pmap(
        step, "batch", in_axes=(None, 0), out_axes=None, devices=jax.devices()[:devices]
    )
    return jax.device_get(mapped(current, rows))


@pytest.fixture(scope="module")
def linear_config(tiny_config):
    return changed(tiny_config, data__image_size=SIZE, train__encoders="frozen")


def noise_of(current):
    """The noise of a step."""
    return jax.random.normal(state.step_keys(current)[1], (8, 8))


def images_of(current):
    """Real and generated images of a step, and their sentences."""
    generated = np.tanh(np.einsum("bn,nhwc->bhwc", noise_of(current), current.generator))
    sentence = current.encoders["text"]["table"][BATCH["tokens"]].mean(1)
    return BATCH["image"] / np.float32(127.5) - 1, generated, sentence


def cosines_of(sentences, others):
    lengths = (np.linalg.norm(rows, axis=1) for rows in (sentences, others))
    return sentences @ others.T / np.outer(*lengths)


def augmented_by_hand(image, color=None, translation=None, cutout=None):
    """DiffAugment of one image [S, S, 3], pixel by pixel."""
    size = len(image)
    if color is not None:
        image = image + color[0] - 0.5
        gray = image.mean(2, keepdims=True)
        image = gray + 2 * color[1] * (image - gray)
        image = image.mean() + (0.5 + color[2]) * (image - image.mean())
    result = np.zeros_like(image)
    for row, column in np.ndindex(size, size):
        # The largest shift is an eighth of the size; the square is half of it.
        dy, dx = (0, 0) if translation is None else np.array(translation) - size // 8
        if not (0 <= row + dy < size and 0 <= column + dx < size):
            continue
        if cutout is not None:
            top, left = np.array(cutout) - size // 4
            if top <= row < top + size // 2 and left <= column < left + size // 2:
                continue
        result[row, column] = image[row + dy, column + dx]
    return result


def test_transforms_by_hand_and_in_their_range():
    images = normal(9, 64, SIZE, SIZE, 3)
    policy = "cutout,color,translation"
    drawn = draw_transforms(jax.random.key(1), policy, 64, SIZE, None)
    assert np.unique(drawn.translation).tolist() == [0, 1, 2]
    assert np.unique(drawn.cutout).tolist() == list(range(SIZE + 1))
    assert 0 <= drawn.color.min() < 0.05 and 0.95 < drawn.color.max() < 1
    for names in ("color", "translation", "cutout", policy):
        drawn = draw_transforms(jax.random.key(1), names, 64, SIZE, None)
        assert {name for name, part in drawn._asdict().items() if part is not None} == set(
            names.split(",")
        )
        found = apply_transforms(images, drawn)
        for index in range(64):
            mine = {k: np.asarray(v[index]) for k, v in drawn._asdict().items() if v is not None}
            wanted = augmented_by_hand(images[index], **mine)
            np.testing.assert_allclose(found[index], wanted, atol=1e-5)
    assert apply_transforms(images, None) is images


def test_the_gradient_of_a_moved_image_moves_back():
    images, seen = normal(9, 8, SIZE, SIZE, 3), normal(10, 8, SIZE, SIZE, 3)
    drawn = draw_transforms(jax.random.key(1), "translation,cutout", 8, SIZE, None)
    moved, pullback = jax.vjp(lambda images: apply_transforms(images, drawn), images)
    (gradient,) = pullback(seen)
    # The transform is linear, so <T x, y> = <x, T* y>.
    assert (gradient * images).sum() == pytest.approx(float((moved * seen).sum()), rel=1e-4)
    assert (gradient == 0).any() and (gradient != 0).any()


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (2, 2)])
def test_both_networks_see_an_image_through_one_transform(
    linear_config, begun, devices, microbatches
):
    """A discriminator of zeros becomes half the difference of what it saw, and judges by it."""
    zeros = jax.tree.map(np.zeros_like, begun.discriminator)
    current = begun.replace(discriminator=zeros)
    config = changed(
        linear_config,
        augment__policy="color,translation,cutout",
        loss__magp_weight=0.0,
        train__grad_accumulation_steps=microbatches,
    )
    after, metrics = take(config, current, devices)
    real, generated, sentence = images_of(current)
    keys = state.augment_keys(current)
    real_seen, generated_seen = (
        apply_transforms(images, draw_transforms(key, config.augment.policy, 8, SIZE, None))
        for key, images in zip(keys, (real, generated), strict=True)
    )
    wanted = RATE * (real_seen.mean(0) - generated_seen.mean(0)) / 2
    np.testing.assert_allclose(after.discriminator["image"], wanted, atol=1e-5)
    logits = np.einsum("bhwc,hwc->b", generated_seen, wanted)
    logits += sentence @ after.discriminator["sentence"]
    assert metrics["generator/adversarial"] == pytest.approx(-logits.mean(), abs=1e-4)
    if devices > 1:  # The rest needs no second look.
        return
    plain = changed(config, augment__policy="")
    unseen, others = take(plain, current, devices)
    assert np.abs(unseen.discriminator["image"] - wanted).max() > 1e-3
    # DAMSM sees the images as they are.
    assert metrics["generator/damsm"] == others["generator/damsm"]
    later, _ = take(config, current.replace(step=jnp.int32(4)), devices)
    assert np.abs(later.discriminator["image"] - wanted).max() > 1e-3


@pytest.mark.parametrize("devices", [1, 2])
def test_mismatched_captions_come_from_earlier_steps_too(linear_config, begun, devices):
    """The queue has room for one step and a half; newest come first."""
    plain = changed(linear_config, loss__mismatched="nearest", loss__num_mismatched=3)
    config = changed(plain, loss__sentence_queue=12)
    sentences = images_of(begun)[2]
    current = begun.replace(sentence_queue=jnp.zeros((12, 3)))
    first, metrics = take(config, current, devices)
    _, without = take(plain, begun, devices)
    wanted = np.concatenate([sentences, np.zeros((4, 3))])
    np.testing.assert_allclose(first.sentence_queue, wanted, atol=1e-6)
    name = "discriminator/mismatched"
    assert metrics[name] == pytest.approx(without[name], abs=1e-5)
    near = begun.replace(sentence_queue=np.tile(sentences + 0.1, (2, 1))[:12])
    second, metrics = take(config, near, devices)
    wanted = np.concatenate([sentences, near.sentence_queue[:4]])
    np.testing.assert_allclose(second.sentence_queue, wanted, atol=1e-6)
    assert abs(metrics[name] - without[name]) > 1e-3


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (2, 2)])
def test_images_are_told_by_the_sentences_of_all_devices_and_of_the_queue(
    linear_config, begun, devices, microbatches
):
    """The contrastive loss and its gradient, against those by hand."""
    plain = changed(
        linear_config, train__grad_accumulation_steps=microbatches, loss__magp_weight=0.0
    )
    config = changed(plain, loss__contrastive_weight=0.5, loss__contrastive_gamma=2.0)
    images, _, sentence = images_of(begun)
    queue = normal(11, 5, 3)
    queue[1] = 0  # no sentence yet
    queue[3] = 2 * sentence[6]  # a copy
    current = begun.replace(sentence_queue=jnp.asarray(queue))

    def loss(params):
        total = 0.0
        for row, image in enumerate(images):
            features = (image * params["image"]).sum()
            others = [s for i, s in enumerate(sentence) if i != row]
            others += [s for i, s in enumerate(queue) if i != 1 and (i, row) != (3, 6)]
            logits = [2 * features * (s @ params["sentence"]) for s in (sentence[row], *others)]
            total += jax.nn.logsumexp(jnp.stack(logits)) - logits[0]
        return total / len(images)

    wanted, gradient = jax.value_and_grad(loss)(begun.discriminator)
    after, metrics = take(config, current, devices)
    without, plain_metrics = take(plain, current, devices)
    assert metrics["discriminator/contrastive"] == pytest.approx(float(wanted), rel=1e-4)
    assert "discriminator/contrastive" not in plain_metrics
    for name, part in gradient.items():
        moved = after.discriminator[name] - without.discriminator[name]
        np.testing.assert_allclose(moved, -RATE * 0.5 * part, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (2, 2)])
def test_an_image_is_told_by_all_its_captions(linear_config, begun, devices, microbatches):
    """Each is compared with those of other images, and none of its own is a mismatched one."""
    plain = changed(
        linear_config,
        train__grad_accumulation_steps=microbatches,
        loss__magp_weight=0.0,
        loss__mismatched="nearest",
        loss__num_mismatched=2,
    )
    config = changed(plain, loss__contrastive_weight=0.5, loss__contrastive_gamma=2.0)
    further = np.random.default_rng(12).integers(0, 16, (8, 2, 2), np.int32)
    further[4, 1] = BATCH["tokens"][6][::-1]  # The same mean: a copy of another image's.
    tokens = np.concatenate([BATCH["tokens"][:, None], further], 1)
    batch = BATCH | {"all_tokens": tokens, "all_mask": np.ones_like(tokens, bool)}
    images, _, sentence = images_of(begun)
    own = begun.encoders["text"]["table"][tokens].mean(2)
    everything = own.swapaxes(0, 1).reshape(-1, 3)
    queue = normal(11, 30, 3)
    current = begun.replace(sentence_queue=jnp.asarray(queue))
    different = np.stack([(cosines_of(rows, everything) <= 0.9999).all(0) for rows in own])
    assert 8 * 24 - 36 < different.sum() < 8 * (24 - 3)

    def loss(params):
        total = 0.0
        for row, image in enumerate(images):
            features = (image * params["image"]).sum()
            others = np.concatenate([everything[different[row]], queue])
            for each in own[row]:
                logits = 2 * features * jnp.stack([each, *others]) @ params["sentence"]
                total += jax.nn.logsumexp(logits) - logits[0]
        return total / (3 * len(images))

    wanted, gradient = jax.value_and_grad(loss)(begun.discriminator)
    after, metrics = take(config, current, devices, batch=batch)
    assert metrics["discriminator/contrastive"] == pytest.approx(float(wanted), rel=1e-4)
    without, plain_metrics = take(plain, current, devices, batch=batch)
    for name, part in gradient.items():
        moved = after.discriminator[name] - without.discriminator[name]
        np.testing.assert_allclose(moved, -RATE * 0.5 * part, rtol=1e-3, atol=1e-4)
    # Those that images are trained on come first.
    np.testing.assert_allclose(after.sentence_queue, [*everything, *queue[:6]], atol=1e-6)
    logits = 0.0
    pool = np.concatenate([everything, queue])
    similarity = cosines_of(sentence, pool)
    similarity[:, : len(everything)][~different] = -2
    for row, nearest in enumerate(np.argsort(-similarity, 1)[:, :2]):
        features = (images[row] * begun.discriminator["image"]).sum()
        logits += (features + pool[nearest] @ begun.discriminator["sentence"]).sum()
    assert plain_metrics["discriminator/mismatched"] == pytest.approx(logits / 16, rel=1e-3)


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (2, 2)])
def test_logits_stay_near_the_averages_of_the_other_images(
    linear_config, begun, devices, microbatches
):
    """LeCam, its gradient and its averages, against those by hand."""
    plain = changed(
        linear_config, train__grad_accumulation_steps=microbatches, loss__magp_weight=0.0
    )
    config = changed(plain, loss__lecam_weight=0.5)
    images, generated, sentence = images_of(begun)

    def logits(params, images):
        return jnp.einsum("bhwc,hwc->b", images, params["image"]) + sentence @ params["sentence"]

    real, fake = logits(begun.discriminator, images), logits(begun.discriminator, generated)
    # Between the logits, so that some count and some do not.
    averages = jnp.array([jnp.median(fake), jnp.median(real)])

    def loss(params):
        total = 0.0
        for logit in logits(params, images):
            total += jnp.maximum(logit - averages[1], 0) ** 2
        for logit in logits(params, generated):
            total += jnp.maximum(averages[0] - logit, 0) ** 2
        return total / 8

    wanted, gradient = jax.value_and_grad(loss)(begun.discriminator)
    after, metrics = take(config, begun.replace(average_logits=averages), devices)
    without, plain_metrics = take(plain, begun, devices)
    assert metrics["discriminator/lecam"] == pytest.approx(float(wanted), rel=1e-4)
    assert "discriminator/lecam" not in plain_metrics and without.average_logits is None
    for name, part in gradient.items():
        moved = after.discriminator[name] - without.discriminator[name]
        np.testing.assert_allclose(moved, -RATE * 0.5 * part, rtol=1e-3, atol=1e-3)
    means = np.array([real.mean(), fake.mean()])
    np.testing.assert_allclose(after.average_logits, 0.99 * averages + 0.01 * means, rtol=1e-4)


@pytest.mark.parametrize(("devices", "updates"), [(1, 1), (2, 2)])
def test_a_step_with_magp_has_the_weight_of_those_without(linear_config, begun, devices, updates):
    """Every fourth step has MA-GP: |a|^2 + |b|^2 of a discriminator <a, x> + <b, s>."""
    config = changed(
        linear_config,
        discriminator__updates=updates,
        loss__magp_every=4,
        loss__magp_weight=0.01,
        loss__magp_power=2.0,
    )
    after, metrics = take(config, begun, devices)
    without, other_metrics = take(config, begun, devices, with_magp=False)
    never, _ = take(changed(config, loss__magp_weight=0.0), begun, devices)
    # Of two updates the second one starts from the first.
    point = (begun if updates == 1 else without).discriminator
    penalty = sum((part**2).sum() for part in point.values())
    assert metrics["discriminator/magp"] == pytest.approx(float(penalty), rel=1e-4)
    assert "discriminator/magp" not in other_metrics
    for name, part in point.items():
        np.testing.assert_allclose(without.discriminator[name], never.discriminator[name], 1e-5)
        moved = after.discriminator[name] - without.discriminator[name]
        np.testing.assert_allclose(moved, -RATE * 4 * 0.01 * 2 * part, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (2, 2)])
def test_two_images_of_a_caption_are_to_differ_where_it_is_silent(
    linear_config, begun, devices, microbatches
):
    """What both networks see, the loss and its gradient, against those by hand."""
    plain = changed(
        linear_config,
        train__grad_accumulation_steps=microbatches,
        loss__magp_weight=0.0,
        loss__damsm_weight=0.0,
    )
    config = changed(plain, loss__diversity_weight=300.0)
    images, _, sentence = images_of(begun)
    noise = noise_of(begun)

    def code(image):
        code = image.reshape(-1, 3)[: SIZE * SIZE // 2].mean(0)
        return code / jnp.linalg.norm(code)

    bounds = [
        2 * (1 - code(images[row]) @ sentence[row] / np.linalg.norm(sentence[row]))
        for row in range(0, 8, 2)
    ]

    def diversity(generator):
        codes = [code(image) for image in paint(noise, generator)]
        distances = [1 - codes[row] @ codes[row + 1] for row in range(0, 8, 2)]
        return sum(map(jnp.minimum, distances, bounds)) / 4, distances

    wanted, distances = diversity(begun.generator)
    # The bound holds for some pairs, not for all.
    bounded = [float(d) > float(bound) for d, bound in zip(distances, bounds, strict=True)]
    assert any(bounded) and not all(bounded)
    after, metrics = take(config, begun, devices)
    assert metrics["generator/diversity"] == pytest.approx(float(wanted), rel=1e-4)
    repeated = np.repeat(sentence[::2], 2, 0)

    def logits(generated, params):
        return jnp.einsum("bhwc,hwc->b", generated, params["image"]) + repeated @ params["sentence"]

    judged = logits(paint(noise, begun.generator), begun.discriminator).mean()
    assert metrics["discriminator/generated"] == pytest.approx(float(judged), abs=1e-5)

    def loss(generator):
        adversarial = -logits(paint(noise, generator), after.discriminator).mean()
        return adversarial - 300 * diversity(generator)[0]

    norm = jnp.linalg.norm(jax.grad(loss)(begun.generator))
    assert metrics["gradient_norm/generator"] == pytest.approx(float(norm), rel=1e-4)
    _, others = take(plain, begun, devices)
    assert "generator/diversity" not in others
    assert abs(others["gradient_norm/generator"] - norm) > 0.01 * norm
    # Real images keep their own captions.
    assert metrics["discriminator/real"] == others["discriminator/real"]


class VaryingPainter(Painter):
    """Its KL divergence is the mean square of a product of sentence and parameters."""

    def apply(self, variables, noise, sentence, train, mutable):
        outputs, updates = super().apply(variables, noise, sentence, train, mutable)
        return outputs, updates | {"losses": {"kl": (divergence(variables["params"], sentence),)}}


def divergence(generator, sentence):
    return ((sentence @ generator.mean((0, 1, 2))) ** 2).mean()


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 1), (2, 2)])
def test_the_kl_divergence_of_augmented_conditions_is_part_of_the_loss(
    linear_config, begun, devices, microbatches
):
    config = changed(
        linear_config,
        train__grad_accumulation_steps=microbatches,
        loss__magp_weight=0.0,
        loss__damsm_weight=0.0,
        generator__conditioning_augmentation=True,
        loss__kl_weight=500.0,
    )
    after, metrics = take(config, begun, devices, VaryingPainter())
    _, _, sentence = images_of(begun)
    kl = divergence(begun.generator, sentence)
    assert metrics["generator/kl"] == pytest.approx(float(kl), rel=1e-4)
    noise = noise_of(begun)

    def loss(generator):
        images = paint(noise, generator)
        seen = jnp.einsum("bhwc,hwc->b", images, after.discriminator["image"])
        return 500 * divergence(generator, sentence) - seen.mean()

    norm = jnp.linalg.norm(jax.grad(loss)(begun.generator))
    assert metrics["gradient_norm/generator"] == pytest.approx(float(norm), rel=1e-4)
    _, others = take(changed(config, loss__kl_weight=0.0), begun, devices, VaryingPainter())
    assert abs(others["gradient_norm/generator"] - norm) > 0.01 * norm
