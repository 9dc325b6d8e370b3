"""Checkpoints are restored bit for bit, and only for the model and tokenizer that saved them."""

import hashlib
import itertools
import json
import os
import re
import shutil
import time

import flax
import grain
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ssagan_jax.checkpointing.checkpoints import (
    CheckpointError,
    Checkpoints,
    CorruptCheckpointError,
)
from ssagan_jax.steps.pmap import PmapStep, replicate

DIGEST = "0123456789abcdef"


@flax.struct.dataclass
class State:
    step: jax.Array
    key: jax.Array
    params: dict
    ema: dict | None


def make_state(step, seed=0, width=5):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(3, width)).astype(np.float32)
    kernel[0, :3] = [np.nan, -0.0, np.float32(1e-45)]  # Bits that arithmetic would lose.
    return State(
        step=jnp.asarray(step, jnp.int32),
        key=jax.random.key_data(jax.random.key(seed)),
        params={
            "dense": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros((width,))},
            "count": jnp.asarray(seed, jnp.int32),
            "half": jnp.asarray(kernel[1], jnp.bfloat16),
        },
        ema=None,
    )


def make_position(taken=0):
    position = iter(
        grain.MapDataset.range(100).seed(3).shuffle().repeat().batch(4).to_iter_dataset()
    )
    for _ in range(taken):
        next(position)
    return position


def bits(state):
    return [
        (leaf.dtype.name, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(state)
    ]


TEMPLATE = jax.eval_shape(lambda: make_state(0))


def write(folder, *steps, keep=3):
    """Saves make_state(step, step) after `step` batches, for each step."""
    checkpoints = Checkpoints(folder, keep, DIGEST)
    position, taken = make_position(), 0
    for step in steps:
        for _ in range(step - taken):
            next(position)
        taken = step
        checkpoints.save(make_state(step, step), position)
    checkpoints.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of the steps 2 and 5, for reading only."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write(folder, 2, 5)
    return folder


def read_only(folder, digest=DIGEST):
    return Checkpoints(folder, None, digest)


def test_a_state_is_restored_bit_for_bit_with_its_data_position(folder):
    position = make_position()
    state = read_only(folder).restore(TEMPLATE, position)
    assert bits(state) == bits(make_state(5, 5))
    assert state.ema is None
    expected = make_position(taken=5)
    for _ in range(30):
        np.testing.assert_array_equal(next(position), next(expected))


def test_a_step_can_be_chosen(folder):
    position = make_position(taken=9)
    state = read_only(folder).restore(TEMPLATE, position, step=2)
    assert bits(state) == bits(make_state(2, 2))
    np.testing.assert_array_equal(next(position), next(make_position(taken=2)))


def test_reading_changes_neither_the_template_nor_the_disk(folder):
    before, template = sorted(os.walk(folder)), make_state(0)
    checkpoints = read_only(folder)
    assert checkpoints.latest() == 5
    checkpoints.restore(template)
    assert bits(template) == bits(make_state(0))
    assert sorted(os.walk(folder)) == before


def test_an_unknown_step_is_refused_with_the_existing_ones(folder):
    with pytest.raises(CheckpointError, match=r"no checkpoint 3; there are \[2, 5\]"):
        read_only(folder).restore(TEMPLATE, step=3)


def test_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new", 2, DIGEST)
    assert checkpoints.latest() is None
    with pytest.raises(CheckpointError, match="no checkpoint here; train first"):
        checkpoints.restore(TEMPLATE)
    with pytest.raises(CheckpointError, match="no checkpoint here; train first"):
        read_only(tmp_path / "absent").restore(TEMPLATE)
    assert not (tmp_path / "absent").exists()


def with_params(**params):
    """A template with other entries of `params`; None removes one."""
    params = make_state(0).params | params
    params = {name: leaf for name, leaf in params.items() if leaf is not None}
    return make_state(0).replace(params=params, ema={"kernel": jnp.zeros(3)})


@pytest.mark.parametrize(
    ("template", "mismatches"),
    [
        (
            make_state(0, width=6),
            [
                "params/dense/kernel: saved float32[3, 5], the model has float32[3, 6]",
                "params/dense/bias: saved float32[5], the model has float32[6]",
                "params/half: saved bfloat16[5], the model has bfloat16[6]",
            ],
        ),
        (
            with_params(count=None, half=jnp.zeros((5,), jnp.int32), extra=jnp.zeros(2)),
            [
                "params/count: saved int32[], the model has -",
                "params/extra: saved -, the model has float32[2]",
                "params/half: saved bfloat16[5], the model has int32[5]",
                "ema/kernel: saved -, the model has float32[3]",
            ],
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_every_mismatch(folder, template, mismatches):
    with pytest.raises(CheckpointError) as caught:
        read_only(folder).restore(template)
    assert f"{len(mismatches)} tensors differ" in str(caught.value)
    for line in mismatches:
        assert line in str(caught.value)


def test_many_mismatches_are_counted_and_ten_are_listed(folder):
    template = make_state(0)
    template.params.update({f"extra{n:02d}": jnp.zeros(1) for n in range(30)})
    with pytest.raises(CheckpointError) as caught:
        read_only(folder).restore(template)
    assert "30 tensors differ" in str(caught.value)
    assert len(re.findall("extra", str(caught.value))) == 10


def test_another_tokenizer_is_refused(folder):
    with pytest.raises(
        CheckpointError, match="was saved with the tokenizer 0123456789ab, but this folder has ffff"
    ):
        read_only(folder, "f" * 16).restore(TEMPLATE)


def test_the_latest_are_kept(tmp_path):
    write(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["3", "4"]
    assert read_only(tmp_path).latest() == 4


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_save_outlives_a_stop_of_the_process_and_a_clock_that_is_set(
    seconds, tmp_path, monkeypatch
):
    ticks = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 2e9 + seconds * next(ticks))
    write(tmp_path, 3)
    assert next(ticks) > 2
    assert bits(read_only(tmp_path).restore(TEMPLATE)) == bits(make_state(3, 3))


def test_an_existing_step_is_not_overwritten(tmp_path):
    write(tmp_path, 3)
    checkpoints = Checkpoints(tmp_path, 3, DIGEST)
    checkpoints.save(make_state(3, seed=9), make_position())
    checkpoints.close()
    assert bits(read_only(tmp_path).restore(TEMPLATE)) == bits(make_state(3, 3))


@pytest.mark.parametrize("kind", ["jax", "numpy"])
def test_changes_to_the_state_after_save_do_not_reach_the_file(kind, tmp_path):
    # A large leaf, so that the writing has only begun when `save` returns.
    state = make_state(7, 7)
    state.params["large"] = jnp.arange(2_000_000, dtype=jnp.float32)
    wanted = bits(state)
    position = make_position(taken=7)
    if kind == "numpy":
        state = jax.tree.map(lambda leaf: np.array(leaf), state)
    checkpoints = Checkpoints(tmp_path, 1, DIGEST)
    checkpoints.save(state, position)
    assert bits(state) == wanted
    for leaf in jax.tree.leaves(state):
        if kind == "jax":
            leaf.delete()  # As a step does with the state that is donated to it.
        else:
            leaf[...] = 0
    next(position)
    checkpoints.wait()
    template = make_state(0)
    template.params["large"] = jnp.zeros(2_000_000)
    moved = make_position()
    assert bits(checkpoints.restore(template, moved)) == wanted
    np.testing.assert_array_equal(next(moved), next(make_position(taken=7)))


def test_steps_that_reuse_the_buffers_do_not_reach_the_file(tmp_path):
    def add_one(state, batch):
        return jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf), state), {}

    step = PmapStep(add_one)
    batch = {"image": np.zeros((8, 1), np.float32)}
    state, _, _ = step(replicate(make_state(6, 7)), batch)
    wanted = bits(state)
    checkpoints = Checkpoints(tmp_path, 1, DIGEST)
    checkpoints.save(state, make_position())
    for _ in range(3):
        state, _, _ = step(state, batch)
    jax.block_until_ready(state)
    checkpoints.wait()
    assert bits(checkpoints.restore(TEMPLATE)) == wanted


def test_an_incomplete_checkpoint_is_ignored_and_removed(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    half = tmp_path / "run" / "8.orbax-checkpoint-tmp"
    (half / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    (half / "_CHECKPOINT_METADATA").write_text("{}")
    assert read_only(tmp_path / "run").latest() == 5
    assert half.exists()
    checkpoints = Checkpoints(tmp_path / "run", 3, DIGEST)
    assert checkpoints.latest() == 5
    assert bits(checkpoints.restore(TEMPLATE)) == bits(make_state(5, 5))
    checkpoints.save(make_state(8, 8), make_position())
    checkpoints.close()
    assert not half.exists()
    assert bits(read_only(tmp_path / "run").restore(TEMPLATE)) == bits(make_state(8, 8))


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the folder with the steps 2 and 5, to corrupt."""
    return shutil.copytree(folder, tmp_path / "checkpoints")


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def flip_bit(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << (position % 8)
    path.write_bytes(content)


def corruptions(file):
    """Corrupts a file in turn: flips bits, truncates it, removes it; yields a description."""
    intact = file.read_bytes()
    for position in range(0, len(intact), max(len(intact) // 5, 1)):
        flip_bit(file, position)
        yield f"{file.name}: bit of byte {position}"
        file.write_bytes(intact)
    for size in (0, len(intact) // 2, len(intact) - 1):
        file.write_bytes(intact[:size])
        yield f"{file.name}: {size} bytes left"
    file.unlink()
    yield f"{file.name}: removed"
    file.write_bytes(intact)


def test_corruption_is_reported_and_skipped_or_harmless(copy, capsys):
    named, harmless = set(), set()
    for file in sorted(path for path in (copy / "5").rglob("*") if path.is_file()):
        name = str(file.relative_to(copy / "5"))
        for description in corruptions(file):
            position = make_position()
            state = read_only(copy).restore(TEMPLATE, position)
            step = position.get_state()["next_index"]
            errors = capsys.readouterr().err
            assert step in (2, 5) and bits(state) == bits(make_state(step, step)), description
            assert "Traceback" not in errors, description
            is_named = re.search(
                r"^checkpoint 5 is damaged \(.+\); using checkpoint 2$", errors, re.M
            )
            assert bool(is_named) == (step == 2), description
            (named if is_named else harmless).add(name)
    assert {"meta/metadata", "state/_METADATA", "state/manifest.ocdbt"} <= named
    assert any(name.startswith("state/d/") for name in named)
    assert "_CHECKPOINT_METADATA" in harmless - named


def test_orbax_reads_no_damaged_file(copy, monkeypatch):
    # Its libraries may hang when they cancel other reads after one has failed.
    read, restore = [], ocp.StandardCheckpointHandler.restore

    def record(handler, directory, *arguments, **named_arguments):
        read.append(directory.parent.name)
        return restore(handler, directory, *arguments, **named_arguments)

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "restore", record)
    # Newer versions of orbax add an empty file once the others are complete.
    names = json.loads((copy / "5/state/file_checksums.json").read_text())
    files = [copy / "5/state" / name for name in (*names, "file_checksums.json")]
    for file in files:
        intact = file.read_bytes()
        flip_bit(file, len(intact) // 2)
        read_only(copy).restore(TEMPLATE)
        file.write_bytes(intact)
    assert read == ["2"] * len(files) and len(files) > 3
    read_only(copy).restore(TEMPLATE)
    assert read.pop() == "5"


def test_intact_tensors_of_another_run_are_named(copy, tmp_path, capsys):
    # Another run's state beside this one's manifest: every file is intact.
    write(tmp_path / "other", 4)
    shutil.rmtree(copy / "5/state")
    shutil.copytree(tmp_path / "other/4/state", copy / "5/state")
    assert bits(read_only(copy).restore(TEMPLATE)) == bits(make_state(2, 2))
    assert (
        "checkpoint 5 is damaged (step was changed); using checkpoint 2\n"
        in capsys.readouterr().err
    )


def test_a_corrupt_checkpoint_is_not_skipped_if_its_step_is_given(copy):
    flip_bit(copy / "5/meta/metadata", 40)
    before = tree(copy.parent)
    with pytest.raises(CorruptCheckpointError, match=r"damaged: 5 \(.*another one of \[2\]"):
        read_only(copy).restore(TEMPLATE, step=5)
    for step in (2, None):
        assert bits(read_only(copy).restore(TEMPLATE, step=step)) == bits(make_state(2, 2))
    assert tree(copy.parent) == before


@pytest.mark.parametrize("kind", ["flipped", "empty"])
def test_a_corrupt_checkpoint_is_moved_away_and_its_step_saved_again(copy, kind):
    if kind == "flipped":
        flip_bit(copy / "5/meta/metadata", 40)
    else:
        shutil.rmtree(copy / "5")
        (copy / "5").mkdir()
    corrupt = tree(copy / "5")
    for name in ("5", "5.2"):
        checkpoints = Checkpoints(copy, 3, DIGEST)
        position = make_position()
        checkpoints.restore(TEMPLATE, position)
        assert sorted(os.listdir(copy)) == ["2"]
        assert tree(copy.with_name("damaged") / name) == corrupt
        for _ in range(3):
            next(position)
        checkpoints.save(make_state(5, 5), position)
        checkpoints.close()
        moved = make_position()
        assert bits(read_only(copy).restore(TEMPLATE, moved)) == bits(make_state(5, 5))
        np.testing.assert_array_equal(next(moved), next(make_position(taken=5)))
        shutil.rmtree(copy / "5")
        shutil.copytree(copy.with_name("damaged") / name, copy / "5")


def test_if_all_are_corrupt_each_is_named_and_none_is_moved(copy):
    flip_bit(copy / "5/meta/metadata", 40)
    (copy / "2/state/manifest.ocdbt").write_bytes(b"")
    before = tree(copy.parent)
    with pytest.raises(
        CorruptCheckpointError, match=r"5 \(.*; 2 \(state cannot be read: .*train again"
    ):
        Checkpoints(copy, 3, DIGEST).restore(TEMPLATE, make_position())
    assert tree(copy.parent) == before


def test_a_checkpoint_of_another_model_is_not_skipped(copy, capsys):
    write(copy.parent / "other", 9)
    shutil.copytree(copy.parent / "other/9", copy / "9")
    with pytest.raises(CheckpointError, match="checkpoints/9: 3 tensors differ") as caught:
        Checkpoints(copy, 3, DIGEST).restore(make_state(0, width=6))
    assert not isinstance(caught.value, CorruptCheckpointError)
    assert "damaged" not in capsys.readouterr().err and not copy.with_name("damaged").exists()


def test_a_manifest_with_other_entries_is_refused_by_name(copy):
    meta = copy / "5/meta/metadata"
    content = json.loads(meta.read_text()) | {"sharding": "none"}
    del content["digest"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    meta.write_text(json.dumps(content | {"digest": digest}))
    with pytest.raises(
        CheckpointError, match="checkpoints/5: its manifest has the entries .* sharding"
    ) as caught:
        read_only(copy).restore(TEMPLATE)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, CorruptCheckpointError)


def test_weights_without_a_data_position_cannot_be_resumed(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, DIGEST)
    checkpoints.save(make_state(0), None)
    checkpoints.close()
    assert bits(read_only(tmp_path).restore(TEMPLATE)) == bits(make_state(0))
    with pytest.raises(CheckpointError, match=r"not of a training run.*config\.train\.checkpoint"):
        read_only(tmp_path).restore(TEMPLATE, make_position())
