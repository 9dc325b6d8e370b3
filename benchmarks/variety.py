"""What a model of toy cars shows where its captions name an attribute, and where they do not.

    python benchmarks/variety.py --workdir=launch/toy_cars

A small convolutional network, trained on fresh drawings, reads six attributes from generated
images. Prints Markdown: in how many drawings that it has not seen it is right, in how many images
it finds what the caption names, and how many different values it finds among `--num` noises of a
caption that names none; and the Frechet distance, in its features, of an image of every validation
caption to drawings. It also guesses at blurs: look at the images of `--output`, too.
"""

import argparse
import sys
from pathlib import Path

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

import ssagan_jax
from ssagan_jax.data.images.resizing import get_load_size
from ssagan_jax.data.toy_cars.backgrounds import BACKGROUNDS
from ssagan_jax.data.toy_cars.builder import MOMENTS, PLACES, cars, sentences
from ssagan_jax.data.toy_cars.car import BODIES, COLORS, FACINGS, LIGHTS, WHEELS, Car
from ssagan_jax.data.toy_cars.drawing import draw_car
from ssagan_jax.evaluation.toy_car_attributes import mentions
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.inference.sampler import sample_noise
from ssagan_jax.metrics.fid import Moments, frechet_distance

VALUES = {
    "color": tuple(COLORS),
    "facing": FACINGS,
    "body": BODIES,
    "background": BACKGROUNDS,
    "light": tuple(LIGHTS),
    "wheels": tuple(WHEELS),
}
# Captions always name the color, and the model of a car determines its body.
LEFT_OPEN = ("facing", "background", "light", "wheels")
SIZE = 64  # Pixels, of the images that are read.
BATCH = 64
# 0 draws the data set.
TRAINING_SEEDS, HELD_OUT_SEED, DISTANCE_SEEDS, OTHER_SEED = range(1, 6), 6, range(7, 10), 10


class Reader(nn.Module):
    """Reads the attributes of cars."""

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Images f32[B, SIZE, SIZE, 3] in [-1, 1] to logits f32[B, values] of each attribute.

        And to "features" f32[B, 256].
        """
        hidden = images
        for width, stride in ((32, 2), (64, 1), (64, 2), (128, 2), (128, 2)):
            hidden = nn.Conv(width, (3, 3), stride)(hidden)
            hidden = nn.relu(nn.GroupNorm(8)(hidden))
        hidden = nn.relu(nn.Dense(256)(hidden.reshape(len(hidden), -1)))
        logits = {name: nn.Dense(len(values))(hidden) for name, values in VALUES.items()}
        return {"features": hidden} | logits


def named_attributes(caption: str, car: Car) -> set[str]:
    """Which of the attributes of `car` are named by `caption`, one of its `sentences`."""
    phrases = {name: (getattr(car, name),) for name in VALUES}
    phrases |= {"background": PLACES[car.background], "light": MOMENTS[car.light]}
    return {
        name
        for name, alternatives in phrases.items()
        if any(mentions(caption, phrase) for phrase in alternatives)
    }


def draw(drawn: list[Car]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Drawings u8[B, L, L, 3], larger than SIZE for random crops, and labels i32[B] of each."""
    images = np.stack([np.asarray(draw_car(car, get_load_size(SIZE))) for car in drawn])
    labels = {
        name: np.array([values.index(getattr(car, name)) for car in drawn])
        for name, values in VALUES.items()
    }
    return images, labels


def crop(images: np.ndarray, top: int, left: int) -> np.ndarray:
    """The images from a corner on, f32[B, SIZE, SIZE, 3] in [-1, 1]."""
    return images[:, top : top + SIZE, left : left + SIZE].astype(np.float32) / 127.5 - 1


def draw_centered(drawn: list[Car]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The central crops of drawings, and their labels."""
    images, labels = draw(drawn)
    edge = (images.shape[1] - SIZE) // 2
    return crop(images, edge, edge), labels


def resize(images: list[Image.Image]) -> np.ndarray:
    """Generated images of any size, as `crop` returns them."""
    return crop(np.stack([np.asarray(image.resize((SIZE, SIZE))) for image in images]), 0, 0)


def train_reader(steps: int) -> dict:
    """Parameters of a `Reader` of fresh drawings."""
    images, labels = draw([car for seed in TRAINING_SEEDS for car in cars("train", seed)])
    reader, rng = Reader(), np.random.default_rng(0)
    margin = images.shape[1] - SIZE
    variables = reader.init(jax.random.key(0), crop(images[:1], 0, 0))
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-3)

    @jax.jit
    def step(
        variables: dict, state: optax.OptState, pixels: jax.Array, targets: dict[str, jax.Array]
    ) -> tuple[dict, optax.OptState]:
        def loss(variables: dict) -> jax.Array:
            logits = reader.apply(variables, pixels)
            cross_entropy = optax.softmax_cross_entropy_with_integer_labels
            return sum(cross_entropy(logits[name], targets[name]).mean() for name in VALUES)

        updates, state = optimizer.update(jax.grad(loss)(variables), state, variables)
        return optax.apply_updates(variables, updates), state

    state = optimizer.init(variables)
    for _ in range(steps):
        rows = rng.choice(len(images), BATCH, replace=False)
        pixels = crop(images[rows], *rng.integers(0, margin + 1, 2))
        variables, state = step(variables, state, pixels, {k: v[rows] for k, v in labels.items()})
    return variables


@jax.jit
def read(variables: dict, pixels: jax.Array) -> dict[str, jax.Array]:
    """The number of the value of each attribute, i32[B], of images as `crop` returns them."""
    logits = Reader().apply(variables, pixels)
    return {name: jnp.argmax(logits[name], -1) for name in VALUES}


@jax.jit
def features(variables: dict, pixels: jax.Array) -> jax.Array:
    """Features f32[B, 256] of images as `crop` returns them."""
    return Reader().apply(variables, pixels)["features"]


def moments(variables: dict, pixels: np.ndarray) -> Moments:
    """Of the reader's features of images as `crop` returns them."""
    found = Moments.empty()
    for start in range(0, len(pixels), BATCH):
        found = found.add(features(variables, pixels[start : start + BATCH]))
    return found


def distances(
    variables: dict, model: ssagan_jax.TrainedModel, captions: list[str]
) -> tuple[float, float]:
    """Frechet distances to drawings: of an image of each caption, and of other drawings."""
    noise = sample_noise(0, len(captions), model.config.generator.noise_dim)
    images = [Image.fromarray(image) for image in model.generate(captions, noise)]
    drawn = [car for seed in DISTANCE_SEEDS for car in cars("train", seed)]
    others = [car for split in ("train", "validation") for car in cars(split, OTHER_SEED)]
    pixels = resize(images), draw_centered(others)[0], draw_centered(drawn)[0]
    generated, other, reference = (moments(variables, rows) for rows in pixels)
    return frechet_distance(generated, reference), frechet_distance(other, reference)


def drawn_at_random(values: int, num: int) -> float:
    """Expected number of different values among `num` that are drawn uniformly."""
    return values * (1 - (1 - 1 / values) ** num)


def main() -> None:
    """Trains or loads the reader, generates and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of a run, or a model folder")
    parser.add_argument("--captions", type=int, default=48, help="captions for each attribute")
    parser.add_argument("--num", type=int, default=8, help="noises of a caption")
    parser.add_argument("--reader", type=Path, help="file that keeps the reader for other calls")
    parser.add_argument("--reader_steps", type=int, default=600)
    parser.add_argument("--output", type=Path, help="PNG of captions that name no background")
    flags = parser.parse_args()
    model = ssagan_jax.load_model(flags.workdir)
    if flags.reader and flags.reader.exists():
        variables = flax.serialization.msgpack_restore(flags.reader.read_bytes())
    else:
        variables = train_reader(flags.reader_steps)
        if flags.reader:
            flags.reader.write_bytes(flax.serialization.msgpack_serialize(variables))
    held_out, labels = draw_centered(cars("validation", HELD_OUT_SEED))
    found = read(variables, held_out)
    right = {name: float(np.mean(found[name] == labels[name])) for name in VALUES}

    pairs = [(caption, car) for car in cars("validation") for caption in sentences(car)]
    order = np.random.default_rng(0).permutation(len(pairs))
    pairs = [pairs[index] for index in order]
    hits: dict[str, list[bool]] = {name: [] for name in VALUES}
    different: dict[str, list[int]] = {name: [] for name in LEFT_OPEN}
    rows = []
    for caption, car in pairs:
        named = named_attributes(caption, car)
        wanted = {n for n in named if len(hits[n]) < flags.captions * flags.num}
        wanted |= {n for n in LEFT_OPEN if n not in named and len(different[n]) < flags.captions}
        if not wanted:
            continue
        painted = model.paint(caption, num=flags.num)
        if "background" not in named and len(rows) < 8:
            rows.append((caption, [np.asarray(image) for image in painted]))
        found = jax.device_get(read(variables, resize(painted)))
        for name in wanted & named:
            hits[name] += list(found[name] == VALUES[name].index(getattr(car, name)))
        for name in wanted - named:
            different[name].append(len(set(found[name].tolist())))
    print(f"{flags.workdir}, step {model.step}; {flags.num} noises of a caption\n")
    print("| attribute | read right in drawings | shown where named | different values where not |")
    print("| --- | --- | --- | --- |")
    for name, values in VALUES.items():
        variety = ""
        if name in LEFT_OPEN:
            at_random = drawn_at_random(len(values), flags.num)
            variety = f"{np.mean(different[name]):.2f} (drawn at random: {at_random:.2f})"
        print(f"| {name} | {right[name]:.2f} | {np.mean(hits[name]):.2f} | {variety} |")
    own, others = distances(variables, model, [caption for caption, _ in pairs])
    print(f"\nFrechet distance to drawings: {own:.0f}; of as many other drawings: {others:.0f}")
    if flags.output:
        draw_image_grid(rows, ()).save(flags.output)


if __name__ == "__main__":
    sys.exit(main())
