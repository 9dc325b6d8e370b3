"""`ssagan_jax.load_model` and the model's methods, on a tiny model with random weights."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import CAPTIONS, NOISE, REALS, random_state

import ssagan_jax
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.fixed_samples import FixedSamples
from ssagan_jax.inference.sampler import interpolate_noise, sample_noise, truncate_noise
from ssagan_jax.workdir import Workdir

RED, BLUE = "a red car", "a blue truck"


@pytest.fixture(scope="module")
def folder(tiny_config, tmp_path_factory):
    """A work folder whose checkpoint no one trained."""
    workdir = Workdir(tmp_path_factory.mktemp("api") / "run")
    workdir.write_config(tiny_config)
    tokenizer = learn_tokenizer("words", [RED, BLUE], 100)
    workdir.write_tokenizer(tokenizer)
    checkpoints = Checkpoints(workdir.checkpoints, 1, tokenizer.digest)
    checkpoints.save(random_state(tiny_config, tokenizer, 7), None)
    checkpoints.close()
    workdir.write_fixed_samples(FixedSamples(CAPTIONS, NOISE, np.stack(REALS)))
    return workdir.path


@pytest.fixture(scope="module")
def model(folder):
    return ssagan_jax.load_model(folder)


def pixels(images):
    return np.stack([np.asarray(image) for image in images])


def test_importing_the_package_imports_neither_jax_nor_tensorflow():
    program = (
        "import ssagan_jax, sys; assert 'load_model' in dir(ssagan_jax)\n"
        "print([name for name in ('jax', 'tensorflow', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ssagan_jax.nothing  # noqa: B018


def test_a_loaded_model_knows_its_step_and_examples_and_prints_shortly(model):
    assert model.step == 7 and model.example_captions == tuple(CAPTIONS)
    assert len(repr(model)) < 200


def test_painting_gives_images_of_the_seed_whatever_else_is_painted(model):
    first = model.paint(RED, num=3, seed=5)
    assert [image.size for image in first] == [(32, 32)] * 3
    assert len({image.tobytes() for image in first}) == 3
    blue, red = model.paint([BLUE, RED], num=2, seed=5)
    np.testing.assert_array_equal(pixels(red), pixels(first[:2]))
    assert not np.array_equal(pixels(blue), pixels(red))
    noise = sample_noise(5, 3, 8)
    np.testing.assert_array_equal(model.generate([RED] * 3, noise), pixels(first))


def test_masks_come_with_the_same_images(model):
    images, masks = model.paint(RED, num=2, masks=True)
    np.testing.assert_array_equal(pixels(images), pixels(model.paint(RED, num=2)))
    _, wanted = model.generate_with_masks([RED] * 2, sample_noise(0, 2, 8))
    for row, stages in enumerate(masks):
        assert [stage.mode for stage in stages] == ["L"] * 4
        expected = np.round(np.stack([stage[row, ..., 0] for stage in wanted]) * 255)
        np.testing.assert_array_equal(pixels(stages), expected)
    nested = model.paint([RED, BLUE], masks=True)
    assert [len(part) for part in (*nested, nested.masks[0])] == [2, 2, 1]


def test_truncation_scales_clamped_noise(model):
    noise = np.float32([[-3, -1, 0.5, 4]])
    assert truncate_noise(noise, 1) is noise
    np.testing.assert_array_equal(truncate_noise(noise, 0.5), [[-1, -0.5, 0.25, 1]])
    images = pixels(model.paint(RED, num=2, truncation=0.5))
    wanted = model.generate([RED] * 2, np.clip(sample_noise(0, 2, 8), -2, 2) / 2)
    np.testing.assert_array_equal(images, wanted)
    still, again = model.paint(RED, num=2, truncation=0)
    assert still.tobytes() == again.tobytes()


def test_the_best_of_several_noises_is_the_one_that_scores_highest(model):
    candidates = model.paint(RED, num=6, seed=3)
    scores = model.score(candidates, RED).reshape(3, 2)
    best = model.paint(RED, num=2, seed=3, best_of=3)
    for column, image in enumerate(best):
        chosen = candidates[scores[:, column].argmax() * 2 + column]
        assert image.tobytes() == chosen.tobytes()
    assert scores.argmax(0).any()  # Not simply the first ones.


def test_scores_are_cosines_and_accept_any_picture(model):
    images = model.paint(RED, num=2)
    scores = model.score([*images, np.asarray(images[0])], [RED, RED, RED])
    assert scores.shape == (3,) and (np.abs(scores) <= 1).all() and scores[0] == scores[2]
    assert model.score([images[0]], BLUE) != scores[0]
    large = Image.new("LA", (300, 40), 128)
    assert model.score([large], RED) == model.score([np.full((32, 32, 3), 128, np.uint8)], RED)


def test_interpolation_starts_and_ends_with_what_is_painted(model):
    between = model.interpolate(RED, BLUE, 3, seed=4)
    ends = [model.paint(caption, seed=4)[0] for caption in (RED, BLUE)]
    np.testing.assert_array_equal(pixels(between[::2]), pixels(ends))
    assert between[1].tobytes() not in {end.tobytes() for end in ends}
    seeds = model.interpolate(RED, steps=3, seed=4, to_seed=9)
    ends = [model.paint(RED, seed=seed)[0] for seed in (4, 9)]
    np.testing.assert_array_equal(pixels(seeds[::2]), pixels(ends))


def test_noise_is_interpolated_on_a_sphere():
    start, end = np.float32([1, 0]), np.float32([0, 1])
    mixed = interpolate_noise(start, end, np.float32([0, 0.5, 1]))
    np.testing.assert_allclose(mixed, [[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)
    np.testing.assert_array_equal(interpolate_noise(start, start, np.float32([0.5])), [start])


def test_unknown_words_are_named(model):
    assert model.unknown_words("a plaid car") == ["plaid"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.paint([]), r"captions=\[\]: must be a sentence or a list of sentences"),
        (lambda m: m.paint(" "), r"captions=\[' '\]: must be"),
        (lambda m: m.paint([RED, 3]), r"captions=.*3\]: must be"),
        (lambda m: m.paint("?!"), r"caption '\?!' has no word"),
        (lambda m: m.paint(RED, num=0), r"num=0: must be 1 or more"),
        (lambda m: m.paint(RED, num=2.5), r"num=2.5: must be 1 or more"),
        (lambda m: m.paint(RED, seed=-1), r"seed=-1: must be 0 to 4294967295"),
        (lambda m: m.paint(RED, seed="x"), r"seed='x': must be an integer"),
        (lambda m: m.paint(RED, truncation=1.5), r"truncation=1.5: must be in \[0, 1\]"),
        (lambda m: m.paint(RED, best_of=0), r"best_of=0: must be 1 or more"),
        (lambda m: m.interpolate(RED), r"to=None: give a caption to go to, or to_seed"),
        (lambda m: m.interpolate(RED, BLUE, 1), r"steps=1: must be 2 or more"),
        (lambda m: m.score([], []), r"captions=\[\]: must be"),
        (lambda m: m.score([3], RED), r"images=3: must be Pillow images or arrays"),
        (lambda m: m.score([NOISE], RED), r"images: float\d+\[.*\]: must be uint8 \[H, W, 3\]"),
        (lambda m: m.score(m.paint(RED), [RED, RED]), r"images: 1, but 2 captions"),
    ],
)
def test_bad_arguments_are_named_with_what_is_allowed(model, call, message):
    with pytest.raises(InputError, match=message):
        call(model)


def test_without_an_image_encoder_ranking_is_refused(model):
    import dataclasses

    bare = dataclasses.replace(model, image_encoder=None)
    with pytest.raises(InputError, match="no image encoder"):
        bare.paint(RED, best_of=2)
    assert len(bare.paint(RED)) == 1
