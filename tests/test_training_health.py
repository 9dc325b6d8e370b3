"""Signs of overfitting and of collapse: their values, the file that keeps them, the warnings."""

import math

import numpy as np
import pytest

from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.health_log import (
    Measurement,
    find_warnings,
    read_health,
    write_health,
)
from ssagan_jax.metrics.training_health import overfitting_signs, relative_variety, thumbnails
from ssagan_jax.workdir import Workdir


def logits(*values):
    return np.array(values, np.float32)


def test_thumbnails_are_means_of_areas_in_the_range_of_the_networks():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, :2, :2, 1] = [[255, 255], [0, 0]]
    images[1] = 255
    first, second = thumbnails(images).reshape(2, 16, 16, 3)
    assert first[0, 0].tolist() == [-1, 0, -1] and (first.sum(-1) == -3).sum() == 255
    assert (second == 1).all()
    assert (thumbnails(images[:, ::2, ::2])[1] == 1).all()


def test_signs_of_overfitting_have_known_values():
    found = overfitting_signs(logits(2, 4, -1, 3), logits(1, 1, 2), logits(-4, -2))
    assert found == pytest.approx(
        {
            "training_logit": 2,
            "held_out_logit": 4 / 3,
            "generated_logit": -3,
            "sign": 0.5,
            "overfitting": (2 - 4 / 3) / 5,
            # Of 12 pairs: 2 beats 1, 1 and ties with 2; 4 and 3 beat all; -1 beats none.
            "separation": 8.5 / 12,
        }
    )


def test_held_out_images_like_training_ones_or_like_generated_ones():
    alike = overfitting_signs(logits(1, 2), logits(2, 1), logits(-1, -2))
    assert (alike["overfitting"], alike["separation"]) == (0, 0.5)
    apart = overfitting_signs(logits(1, 2), logits(-1, -2), logits(-1, -2))
    assert (apart["overfitting"], apart["separation"]) == (1, 1)
    assert math.isnan(overfitting_signs(logits(1), logits(0), logits(1.01))["overfitting"])


def test_variety_is_relative_to_real_images():
    real = np.array([[0.0, 0], [6, 8]])  # 10 apart.
    # By caption and noise; noises are 1 apart, captions 5 apart.
    generated = np.array([[[0.0, 0], [0, 1]], [[5, 0], [5, 1]]])
    found = relative_variety(generated, real)
    assert found == pytest.approx({"noise_variety": 0.1, "caption_variety": 0.5})
    assert math.isnan(relative_variety(generated, real[[0, 0]])["noise_variety"])


def measurements(**series):
    """One measurement every 10 steps; values that are not given are healthy."""
    healthy = {"noise_variety": 0.5, "caption_variety": 0.9, "separation": 0.6}
    count = len(next(iter(series.values())))
    rows = [
        healthy | {name: values[index] for name, values in series.items()} for index in range(count)
    ]
    return [
        Measurement(10 * index, {f"health/{name}": value for name, value in row.items()})
        for index, row in enumerate(rows)
    ]


def warned(**series):
    return sorted(find_warnings(measurements(**series)))


def test_a_run_that_only_begins_has_no_warning():
    assert warned(noise_variety=[0.001, 0.002, 0.03, 0.4], caption_variety=[0, 0, 0.01, 0.8]) == []
    assert warned(noise_variety=[0.6, 0.45, 0.3, 0.2]) == []
    # A single high value, or more variety than real images have.
    assert warned(noise_variety=[0.4, 1.3, 0.4, 0.15, 0.15]) == []
    assert warned(caption_variety=[3.0, 2.8, 0.4, 0.4]) == []
    assert warned(noise_variety=[math.nan] * 3, separation=[0.98] * 3) == []


def test_a_collapse_is_warned_of_once_at_its_second_measurement():
    values = [0.4, 0.4, 0.05, 0.3, 0.1, 0.08, 0.01, 0.2, 0.05, 0.05]
    assert warned(noise_variety=values) == [50, 90]
    (message,) = find_warnings(measurements(noise_variety=values))[50]
    assert message.startswith(
        "step 50: variety between images of one caption fell from 0.4 to 0.08 of that of real "
        "images. Use a ch"
    )
    (message,) = find_warnings(measurements(caption_variety=[1.0, 1.0, 0.2, 0.1]))[30]
    assert "between images of different captions fell from 1 to 0.1 of" in message


def test_full_separation_is_warned_of():
    assert warned(separation=[0.9, 1.0, 0.9, 0.995, 0.99, 1.0]) == [40]
    (message,) = find_warnings(measurements(separation=[1.0, 1.0]))[10]
    assert message.startswith("step 10: in 100% of pairs of a training and a held-out image the")


def test_measurements_replace_those_of_their_step_and_of_later_ones(tmp_path):
    workdir = Workdir(tmp_path)
    assert read_health(workdir) == []
    first, second, third = measurements(noise_variety=[0.1, 1 / 3, 0.3])
    for each in (first, second, third):
        write_health(workdir, each)
    assert read_health(workdir) == [first, second, third]
    # A resumed run takes the steps after its last checkpoint again.
    again = Measurement(10, second.values | {"health/separation": 0.7})
    assert write_health(workdir, again) == read_health(workdir) == [first, again]
    with workdir.health.open("a") as file:
        file.write("[3]\n")
    with pytest.raises(InputError, match=r"health\.jsonl:3: not a measurement .*; delete it"):
        read_health(workdir)
