"""What the benchmarks compute themselves: operations, collectives, layers of a profile."""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from ablation import PARTS, recipes, table
from flops import count_flops, peak_tflops
from judge import judge_config, majority_shares
from profile_table import layer_and_kind, operation_names
from scaling import Collective, collectives, seconds
from variety import drawn_at_random, named_attributes

from configs import quickstart
from ssagan_jax.config import default_config, flatten
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.toy_cars.builder import cars
from ssagan_jax.evaluation.scores import Score, write_scores
from ssagan_jax.workdir import Workdir


def convolve(images, kernel, stride=1):
    padding = ((1, 1), (1, 1))
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=numbers
    )


def test_a_products_operations_are_counted_in_loops_and_branches():
    left, right = jnp.ones((3, 4)), jnp.ones((4, 4))
    assert count_flops(jnp.matmul, left, right) == 2 * 3 * 4 * 4
    repeated = jax.jit(lambda x, y: jax.lax.fori_loop(0, 5, lambda _, value: value @ y, x))
    assert count_flops(repeated, left, right) == 5 * 2 * 3 * 4 * 4
    choose = lambda x, y: jax.lax.cond(x[0, 0] > 0, lambda: x @ y, lambda: x)  # noqa: E731
    assert count_flops(choose, left, right) == 2 * 3 * 4 * 4


@pytest.mark.parametrize("stride", [1, 2])
def test_each_gradient_of_a_convolution_takes_its_operations_again(stride):
    """Also of a strided one, whose gradients convolve dilated arrays that are mostly zeros."""
    images, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((4 if stride == 2 else 3,) * 2 + (3, 5))
    forward = 2 * 2 * (8 // stride) ** 2 * kernel.size
    function = functools.partial(convolve, stride=stride)
    assert count_flops(function, images, kernel) == forward
    gradient = jax.grad(lambda *arrays: function(*arrays).sum(), (0, 1))
    assert count_flops(gradient, images, kernel) == 3 * forward


def test_the_peak_is_that_of_the_device_and_precision():
    assert peak_tflops("NVIDIA H100 80GB HBM3", "bfloat16") == 989
    assert peak_tflops("NVIDIA H100 PCIe", "bfloat16") == 756
    assert peak_tflops("cpu", "float32") is None


def test_collectives_of_a_compiled_program_are_found_with_their_bytes():
    mapped = jax.pmap(lambda x: (jax.lax.psum(x, "i"), jax.lax.all_gather(x, "i")), axis_name="i")
    devices = jax.local_device_count()
    found = collectives(mapped.lower(jnp.ones((devices, 6))).compile().as_text())
    assert sorted(found) == [("all-gather", 4 * 6 * devices), ("all-reduce", 4 * 6)]
    assert collectives(
        "  %ar = (f32[2,3]{1,0}, /*index=1*/bf16[4]{0}) all-reduce-start(%a, %b), replica_groups={}"
    ) == [("all-reduce", 2 * 3 * 4 + 4 * 2)]


def test_a_ring_passes_twice_for_an_all_reduce():
    assert seconds(Collective("all-reduce", 400), 4, 100.0, 0.5) == 2 * 3 * (400 / 4 / 100 + 0.5)
    assert seconds(Collective("all-gather", 400), 4, 100.0, 0.5) == 3 * (400 / 4 / 100 + 0.5)
    assert seconds(Collective("all-reduce", 400), 1, 100.0, 0.5) == 0


def test_an_operation_of_a_program_is_assigned_to_its_layer():
    line = (
        "  %conv.3 = f32[2,8]{1,0} convolution(%a, %b), dim_labels=b01f, "
        'metadata={op_name="jit(step)/transpose(jvp(Generator))/block3/Conv_0/conv" '
        "source_line=3}"
    )
    assert operation_names(line) == {
        "conv.3": "jit(step)/transpose(jvp(Generator))/block3/Conv_0/conv"
    }
    assert layer_and_kind(operation_names(line)["conv.3"]) == ("generator block3", "backward conv")
    assert layer_and_kind("jit(step)/mul") == ("other", "mul")


@pytest.mark.parametrize("name", ["toy_cars", "birds"])
def test_each_recipe_of_the_ablation_lacks_or_has_one_part(name):
    paper, whole = flatten(default_config()), flatten(quickstart.get_config(name))
    found = recipes(name)
    keys = {key for names in PARTS.values() for key in names if whole[key] != paper[key]}
    assert found["recipe"] == {} and set(found["paper"]) == keys
    for name, values in found.items():
        for key, value in values.items():
            assert value != whole[key]
            if name.startswith("recipe + "):  # in neither
                assert value != paper[key] == whole[key]
            else:
                assert value == paper[key]
    for name, part in PARTS.items():
        if keys & set(part):
            assert set(found[f"recipe - {name}"]) == keys & set(part)
            assert set(found[f"paper + {name}"]) == keys - set(part)
        else:
            assert not {f"recipe - {name}", f"paper + {name}"} & set(found)


def test_the_ablations_table_has_the_last_scores_of_each_run(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.metrics.parent.mkdir(parents=True)
    workdir.write_schedule(Schedule(damsm_steps=10, total_steps=100, steps_per_epoch=5))
    for step, value in ((20, 0.25), (35, 0.5)):
        name = "attributes/color"
        write_scores(workdir, [Score(step, 1.0, "gan", "validation", name, value, None, {})])
    header, _, row = table({("recipe", 3): workdir.path}).splitlines()
    assert header == "| recipe | seed | GAN steps | attributes/color |"
    assert row == "| recipe | 3 | 25 | 0.5 |"


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("The Dunmar Stroma has {color} paint.", {"color"}),
        ("Facing {facing}, the {color} SUV waits on the beach.", {"color", "facing", "body"}),
        ("A {color} pickup truck stands inside a garage.", {"color", "background"}),
        ("This {color} Velora SUV wears {wheels} wheels.", {"color", "body", "wheels"}),
        ("Someone parked a {color} Velora below snowy peaks at dusk.", {"color", "light"}),
    ],
)
def test_attributes_that_a_caption_names(caption, named):
    car = dataclasses.replace(cars("validation")[0], body="suv", background="garage", light="dusk")
    assert named_attributes(caption.format(**dataclasses.asdict(car)), car) == named


def test_different_values_among_random_draws():
    assert drawn_at_random(2, 2) == 1.5 and drawn_at_random(8, 1) == 1
    draws = np.random.default_rng(0).integers(8, size=(4000, 8))
    counted = np.mean([len(set(row)) for row in draws.tolist()])
    assert drawn_at_random(8, 8) == pytest.approx(counted, abs=0.05)


def test_the_class_of_most_of_the_nearest_captions():
    sentences = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9]], np.float32)
    of = np.array([1, 2, 2, 3, 3])
    codes = np.array([[5, 0], [0, 7], [3, 0]], np.float32)
    assert majority_shares(codes, np.array([2, 3, 1]), sentences, of, 3) == pytest.approx(2 / 3)
    assert majority_shares(codes, np.array([2, 3, 1]), sentences, of, 1) == pytest.approx(2 / 3)
    # Of two classes with one caption each, that of the nearer one.
    assert majority_shares(codes, np.array([2, 3, 1]), sentences, of, 2) == pytest.approx(2 / 3)


def test_a_judge_differs_from_the_encoders_that_it_judges():
    config = quickstart.get_config()
    judge = judge_config(config, 5)
    different = {name for name, value in flatten(judge).items() if flatten(config)[name] != value}
    assert different == {"seed", "image_encoder.pooling"}
