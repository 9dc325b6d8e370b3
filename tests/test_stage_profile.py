"""A trace shows the steps 10 to 15 of a stage, and each stage has one."""

import jax
import jax.numpy as jnp

from ssagan_jax.training.stage_profile import StageProfile


def run_steps(folder, first, last):
    with StageProfile(folder) as profile:
        for number in range(first, last + 1):
            with profile.step(number):
                result = jnp.ones(3) + number
            profile.after_step(result)


def traced_steps(folder):
    """Numbers of the training steps in each trace below a folder."""
    return [
        sorted(
            dict(event.stats)["step_num"]
            for plane in jax.profiler.ProfileData.from_file(str(file)).planes
            for line in plane.lines
            for event in line.events
            if event.name == "train"
        )
        for file in sorted(folder.rglob("*.xplane.pb"))
    ]


def test_the_steps_10_to_15_of_this_process_are_traced_once(tmp_path):
    run_steps(tmp_path, first=101, last=140)
    assert traced_steps(tmp_path) == [[110, 111, 112, 113, 114, 115]]


def test_a_short_stage_ends_its_trace_so_that_the_next_one_can_begin(tmp_path):
    run_steps(tmp_path / "short", first=1, last=12)
    run_steps(tmp_path / "next", first=13, last=30)
    assert traced_steps(tmp_path / "short") == [[10, 11, 12]]
    assert traced_steps(tmp_path / "next") == [[22, 23, 24, 25, 26, 27]]


def test_nothing_is_traced_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_steps(None, first=1, last=20)
    assert not list(tmp_path.iterdir())
