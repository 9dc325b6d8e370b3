import dataclasses
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ssagan_jax.data.toy_cars import builder as toy_cars
from ssagan_jax.data.toy_cars import read_color_and_facing
from ssagan_jax.data.toy_cars.car import BODIES, COLORS, FACINGS
from ssagan_jax.data.toy_cars.drawing import draw_car
from ssagan_jax.data.toy_cars.read_body import READABLE_COLORS, read_body
from ssagan_jax.errors import DataError


@pytest.fixture(scope="module")
def validation():
    return toy_cars.cars("validation")


@pytest.fixture(scope="module")
def drawn(validation):
    """The validation pictures at 64 pixels' load size: uint8 [160, 76, 76, 3]."""
    return np.stack([np.asarray(draw_car(car, 76)) for car in validation])


def cropped(pictures, size, offsets):
    pairs = zip(pictures, offsets, strict=True)
    return np.stack([p[y : y + size, x : x + size] for p, (y, x) in pairs])


def share_right(found, wanted):
    return np.mean([a == b for a, b in zip(found, wanted, strict=True)])


@pytest.mark.parametrize(("split", "count", "each"), [("train", 640, 20), ("validation", 160, 5)])
def test_protocol(split, count, each):
    cars = toy_cars.cars(split)
    assert [car.name for car in cars] == [f"{i:05d}" for i in range(count)]
    assert Counter(car.class_id for car in cars) == dict.fromkeys(range(32), each)
    assert {car.body for car in cars} == set(BODIES) and len(BODIES) == 8
    makes = list(toy_cars.MAKES)
    for car in cars:
        model_id = toy_cars.MAKES[car.make].index(car.model)
        assert car.class_id == makes.index(car.make) * 4 + model_id
    assert len({(car.class_id, car.body) for car in cars}) == 32


def test_colors_are_balanced_and_independent_of_the_model():
    cars = toy_cars.cars("train")
    assert Counter(car.color for car in cars) == dict.fromkeys(COLORS, 80)
    by_model = Counter((car.class_id, car.color) for car in cars)
    assert max(by_model.values()) <= 10
    by_body = Counter((car.body, car.color) for car in cars)
    assert len(by_body) == 64 and min(by_body.values()) >= 3
    assert 0.4 < np.mean([car.facing == "left" for car in cars]) < 0.6


@pytest.mark.parametrize("split", ["train", "validation"])
def test_five_distinct_sentences_name_the_right_color_only(split):
    for car in toy_cars.cars(split):
        written = toy_cars.sentences(car)
        assert len(written) == len(set(written)) == 5
        for sentence in written:
            words = re.findall(r"[a-z]+", sentence.lower())
            assert set(words) & set(COLORS) == {car.color}, sentence
            assert 6 <= len(sentence.split()) <= 16, sentence
            assert set(words) & set(FACINGS) <= {car.facing}, sentence
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", sentence.lower()), sentence


def test_same_seed_same_pictures_whatever_was_drawn_before(validation, drawn):
    again = toy_cars.cars("validation")
    assert again == validation
    assert toy_cars.sentences(again[37]) == toy_cars.sentences(validation[37])
    np.testing.assert_array_equal(np.asarray(draw_car(again[37], 76)), drawn[37])
    assert toy_cars.cars("validation", seed=1)[37] != validation[37]
    assert toy_cars.cars("train")[37] != validation[37]


def test_every_resolution_shows_the_same_picture(validation):
    for car in validation[:6]:
        small = np.asarray(draw_car(car, 64), float)
        large = np.asarray(draw_car(car, 256).reduce(4), float)
        assert small.shape == (64, 64, 3)
        assert np.abs(small - large).mean() < 3.0
        other = np.asarray(draw_car(validation[20], 64), float)
        assert np.abs(other - large).mean() > 10.0


@pytest.mark.parametrize("load_size", [76, 152])
def test_colors_facings_and_bodies_are_read_under_crops(validation, load_size, drawn):
    pictures = drawn
    if load_size != 76:
        pictures = np.stack([np.asarray(draw_car(car, load_size)) for car in validation])
    size = load_size * 64 // 76
    room = load_size - size
    colors, facings = [c.color for c in validation], [c.facing for c in validation]
    middle = cropped(pictures, size, [(room // 2, room // 2)] * 160)
    shifted = cropped(pictures, size, np.random.default_rng(0).integers(0, room + 1, (160, 2)))
    for images in (middle, shifted):
        assert share_right(read_color_and_facing.read_color(images), colors) >= 0.985
        assert share_right(read_color_and_facing.read_facing(images), facings) >= 0.97
    readable = [color in READABLE_COLORS for color in colors]
    bodies = [car.body for car in validation if car.color in READABLE_COLORS]
    found = read_body(shifted[readable])
    assert len(bodies) == 120 and share_right(found, bodies) >= 0.96
    # The answers depend on the car: those of other cars are mostly wrong.
    assert share_right(found, bodies[3:] + bodies[:3]) < 0.3
    # Generated images are blurred and miss the shade.
    blur = ImageFilter.GaussianBlur(size / 80)
    blurred = [Image.fromarray(image).filter(blur) for image in shifted]
    shaded = (np.stack(blurred)[readable] * np.array([0.8, 0.85, 0.9])).astype(np.uint8)
    assert share_right(read_body(shaded), bodies) >= 0.96


def test_rules_can_fail(validation, drawn):
    images = drawn[:, 6:70, 6:70]
    shuffled = np.random.default_rng(0).permutation([car.color for car in validation])
    assert 0.04 < share_right(read_color_and_facing.read_color(images), shuffled) < 0.21
    mirrored = read_color_and_facing.read_facing(images[:, :, ::-1])
    assert share_right(mirrored, [car.facing for car in validation]) <= 0.03


def test_lab_of_known_colors():
    lab = read_color_and_facing.rgb_to_lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]]))
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]
    np.testing.assert_allclose(lab, expected, atol=0.05)


def test_whole_car_stays_inside_the_central_four_fifths(validation):
    # Two cars that differ in paint alone differ in the picture only where the car is.
    for car in validation[:32]:
        red, blue = (
            np.asarray(draw_car(dataclasses.replace(car, color=color), 100), int)
            for color in ("red", "blue")
        )
        rows, columns = np.nonzero(np.abs(red - blue).max(-1) > 8)
        assert 10 <= rows.min() and rows.max() < 90
        assert 10 <= columns.min() and columns.max() < 90
        assert 60 <= np.ptp(columns) + 1 <= 74


def test_bad_arguments_are_named(validation):
    with pytest.raises(ValueError, match="size=31"):
        draw_car(validation[0], 31)
    with pytest.raises(ValueError, match="split='test'"):
        toy_cars.cars("test")
    with pytest.raises(ValueError, match="32 pixels wide"):
        read_body(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        read_color_and_facing.read_color(np.zeros((1, 64, 64, 3)))


def test_builder_yields_examples_of_its_load_size(tmp_path, validation):
    builder = toy_cars.ToyCars(image_size=64, data_dir=tmp_path)
    example = next(builder._examples("validation"))
    assert example["image"].size == (76, 76)
    assert example["captions"] == toy_cars.sentences(validation[0])
    assert example["attributes"]["color"] == validation[0].color
    with pytest.raises(DataError, match="image_size=20"):
        next(toy_cars.ToyCars(image_size=20, data_dir=tmp_path)._examples("train"))
