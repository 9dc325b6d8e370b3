"""Trains a small model on cars drawn in memory, saves and reads its checkpoint, and paints.

    python benchmarks/train_cars.py --output=DIR --damsm_steps=400 --gan_steps=2500

Both stages run by the training steps themselves, without the loop, TensorFlow, TFDS, clu and grain.
Prints Markdown: speeds, how well the encoders retrieve, and a grid of pictures.
"""

import argparse
import functools
import shutil
import sys
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.config import default_config
from ssagan_jax.data.tokenizer import Tokenizer, learn_tokenizer
from ssagan_jax.data.toy_cars.backgrounds import BACKGROUNDS
from ssagan_jax.data.toy_cars.car import BODIES, COLORS, FACINGS, LIGHTS, WHEELS, Car
from ssagan_jax.data.toy_cars.drawing import draw_car
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.inference.sampler import Sampler, generation_variables, sample_noise
from ssagan_jax.steps.damsm_step import damsm_step
from ssagan_jax.steps.gan_step import gan_step
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.pmap import BATCH_AXIS, PmapStep, replicate, unreplicate
from ssagan_jax.steps.state import StepContext, abstract_state, begin_gan_stage, initial_state

SHOWN = ("a red sedan facing left", "a blue van facing right", "a yellow coupe facing left")


def draw_cars(count: int, size: int) -> tuple[np.ndarray, list[str]]:
    """Images u8[count, size, size, 3] and a caption of each."""
    rng = np.random.default_rng(0)

    def pick(options: object) -> str:
        names = list(options)
        return names[int(rng.integers(len(names)))]

    images, captions = [], []
    for index in range(count):
        body, color, facing = pick(BODIES), pick(COLORS), pick(FACINGS)
        car = Car(
            name=f"{index}",
            class_id=index,
            make="",
            model="",
            body=body,
            color=color,
            facing=facing,
            background=pick(BACKGROUNDS),
            light=pick(LIGHTS),
            wheels=pick(WHEELS),
            wheel_scale=1.0,
            length=0.66,
            shift=(0.0, 0.0),
            seed=(0, 0, index),
        )
        images.append(np.asarray(draw_car(car, size)))
        captions.append(f"a {color} {body} facing {facing}")
    return np.stack(images), captions


def _encode(tokenizer: Tokenizer, captions: list[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, mask = zip(*(tokenizer.encode(caption, words) for caption in captions), strict=True)
    return np.stack(tokens), np.stack(mask)


def main() -> None:
    """Trains, saves, reads and paints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--damsm_steps", type=int, default=400)
    parser.add_argument("--gan_steps", type=int, default=2500)
    parser.add_argument("--cars", type=int, default=640)
    flags = parser.parse_args()
    config = default_config()
    config.data.image_size, config.train.batch_size = flags.image_size, flags.batch_size
    for name in ("generator", "discriminator", "image_encoder"):
        config[name].channels = flags.channels
    config.generator.upsampling, config.train.ema_decay = "bilinear", 0.99
    config.generator.learning_rate = config.discriminator.learning_rate = 1e-3
    images, captions = draw_cars(flags.cars, flags.image_size)
    tokenizer = learn_tokenizer("words", captions, config.tokenizer.vocab_size)
    tokens, mask = _encode(tokenizer, captions, config.data.max_words)
    vocabulary, optimizers = tokenizer.vocabulary, build_optimizers(config, flags.damsm_steps)
    context = StepContext(config, build_networks(config, vocabulary, BATCH_AXIS), optimizers)
    state = replicate(initial_state(config, vocabulary))
    rng = np.random.default_rng(0)
    print("| stage | steps | compiled in s | images/s | last losses |\n" + "| --- " * 5 + "|")
    stages = (("DAMSM", damsm_step, flags.damsm_steps), ("GAN", gan_step, flags.gan_steps))
    for name, function, steps in stages:
        if function is gan_step:
            state = replicate(begin_gan_stage(unreplicate(state), optimizers))
        step, compiled, start = PmapStep(functools.partial(function, context)), 0.0, 0.0
        for number in range(steps):
            chosen = rng.choice(len(images), flags.batch_size, replace=False)
            batch = {"image": images[chosen], "tokens": tokens[chosen], "mask": mask[chosen]}
            batch["class_id"] = chosen.astype(np.int32)
            if number == 0:
                start = time.perf_counter()
                step.compile(state, batch)
                compiled = time.perf_counter() - start
            state, metrics, _ = step(state, batch)
            if number == 0:
                jax.block_until_ready(metrics)
                start = time.perf_counter()
        jax.block_until_ready(state)
        speed = (steps - 1) * flags.batch_size / (time.perf_counter() - start)
        losses = [f"{key} {float(metrics[key]):.3f}" for key in sorted(metrics) if "non" not in key]
        print(f"| {name} | {steps} | {compiled:.1f} | {speed:.1f} | {', '.join(losses)} |")
    folder = flags.output.resolve() / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)  # Of an earlier call.
    start = time.perf_counter()
    checkpoints = Checkpoints(folder, 1, tokenizer.digest)
    checkpoints.save(unreplicate(state), None)
    checkpoints.wait()
    checkpoints.close()
    saved = time.perf_counter() - start
    start = time.perf_counter()
    restored = Checkpoints(folder, None, tokenizer.digest).restore(
        abstract_state(config, tokenizer)
    )
    read = time.perf_counter() - start
    different = [
        not np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(unreplicate(state)), jax.tree.leaves(restored), strict=True)
    ]
    print(
        f"\nCheckpoint written in {saved:.1f} s, read in {read:.1f} s; {len(different)} tensors, "
    )
    print(f"of which {sum(different)} differ.\n")
    sampler = Sampler(build_networks(config, vocabulary))
    variables = generation_variables(restored)
    known = [text for text in SHOWN if not tokenizer.unknown_words(text)] or captions[:3]
    noise, rows = sample_noise(0, 6, config.generator.noise_dim), []
    for caption in known:
        sentences = sampler.sentences(
            variables, *_encode(tokenizer, [caption] * 6, config.data.max_words)
        )
        rows.append((caption, list(sampler.images(variables, sentences, noise))))
    grid: Image.Image = draw_image_grid(rows, ())
    grid.save(flags.output / "cars.png")
    print("![Painted cars](cars.png)")


if __name__ == "__main__":
    sys.exit(main())
