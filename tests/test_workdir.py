"""A work folder: what it refuses, and what it keeps."""

import json
import os
import shutil
from collections import namedtuple

import numpy as np
import pytest

from ssagan_jax.config import default_config, incompatible_keys
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.fixed_samples import FixedSamples, GeneratedSamples
from ssagan_jax.workdir import Workdir, WorkdirError


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path / "runs/first")
    workdir.write_config(default_config())
    return workdir


def test_the_config_is_restored_and_locked(workdir):
    config = default_config()
    config.train.batch_size = 4
    config.loss.magp_power = 2.5
    workdir.write_config(config)
    read = workdir.config()
    assert incompatible_keys(read, config) == [] and read.train.batch_size == 4
    assert read.is_locked
    assert json.loads((workdir.path / "config.json").read_text()) == config.to_dict()
    assert sorted(os.listdir(workdir.path)) == ["config.json"]


def test_the_tokenizer_is_restored(workdir):
    assert not workdir.has_tokenizer()
    tokenizer = learn_tokenizer("words", ["a red bird"], 100)
    workdir.write_tokenizer(tokenizer)
    assert workdir.has_tokenizer() and workdir.tokenizer().digest == tokenizer.digest
    assert sorted(os.listdir(workdir.path)) == ["config.json", "tokenizer.json"]


def test_another_config_is_refused_with_its_keys(workdir):
    workdir.check_config(default_config())
    config = default_config()
    config.train.batch_size = 4
    config.generator.upsampling = "bilinear"
    config.train.epochs = 1
    with pytest.raises(WorkdirError) as caught:
        workdir.check_config(config)
    assert str(caught.value).splitlines() == [
        f"{workdir.path}: this work folder belongs to another config:",
        "  generator.upsampling: 'nearest' -> 'bilinear'",
        "  train.batch_size: 16 -> 4",
        "Choose another --workdir, or delete this one to start over",
    ]


def test_a_new_or_empty_folder_accepts_any_config(tmp_path):
    for folder in (tmp_path, tmp_path / "deep/below"):
        Workdir(folder).check_config(default_config())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("below", ["", "/runs/first"])
def test_a_file_in_place_of_a_folder_is_refused(below, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match=rf"file{below}: {tmp_path}/file is a file; choose a"):
        Workdir(f"{tmp_path}/file{below}").check_config(default_config())


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    # The superuser may write anywhere, so the system's answer is simulated.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(WorkdirError, match=rf"{tmp_path} cannot be written; choose another folder"):
        Workdir(tmp_path / "run").check_config(default_config())


def test_a_folder_without_a_run_is_refused_with_how_to_train_one(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(WorkdirError, match="no trained model here.*ssagan_jax.main --config"):
            Workdir(place).config()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[1]", b"3", b"\xff\xfe\x00"),
        *(b'{"nonsense": 1}', b'{"data": {"image_size": "big"}}', b'{"data": 5}'),
    ],
)
def test_a_damaged_config_is_refused_by_its_name(workdir, content):
    (workdir.path / "config.json").write_bytes(content)
    for use in (workdir.config, lambda: workdir.check_config(default_config())):
        with pytest.raises(WorkdirError, match=r"config\.json: not a config of this version"):
            use()


@pytest.mark.parametrize(
    ("content", "key"),
    [('{"nonsense": 1}', "nonsense"), ('{"data": {"dirs": "", "dir": ""}}', r"data\.dirs")],
)
def test_an_unknown_key_is_named_without_all_that_there_are(workdir, content, key):
    (workdir.path / "config.json").write_text(content)
    message = rf"not a config of this version \(there is no key {key}\); choose another --workdir$"
    with pytest.raises(WorkdirError, match=message):
        workdir.config()


def test_too_little_disk_space_is_refused_in_mebibytes(workdir, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 2**20))
    workdir.check_disk_space(5 * 2**20)
    with pytest.raises(
        WorkdirError, match=r"first: 5 MiB free, but the checkpoints need 7 MiB; .*keep_checkpoints"
    ):
        workdir.check_disk_space(7 * 2**20)


def test_the_schedule_is_restored(workdir):
    schedule = Schedule(steps_per_epoch=5, damsm_steps=7, total_steps=40)
    workdir.write_schedule(schedule)
    assert workdir.schedule() == schedule


def test_fixed_and_generated_samples_are_restored(workdir):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 4, 4, 3), np.uint8)
    noise = rng.normal(size=(2, 5)).astype(np.float32)
    workdir.write_fixed_samples(FixedSamples(["a red car", "ein grünes Auto"], noise, images))
    workdir.write_generated_samples(30, GeneratedSamples(images[::-1], images[..., 0]))
    fixed, generated = workdir.fixed_samples(), workdir.generated_samples(30)
    assert fixed.captions == ["a red car", "ein grünes Auto"]
    np.testing.assert_array_equal(fixed.noise, noise)
    np.testing.assert_array_equal(fixed.real, images)
    np.testing.assert_array_equal(generated.images, images[::-1])
    np.testing.assert_array_equal(generated.mask, images[..., 0])
    assert sorted(os.listdir(workdir.samples)) == ["fixed.npz", "step_0000030.npz"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"steps": 3}'])
def test_a_folder_without_its_own_files_is_refused_in_one_line(workdir, content):
    reads = {
        "schedule.json": workdir.schedule,
        "samples/fixed.npz": workdir.fixed_samples,
        "samples/step_0000003.npz": lambda: workdir.generated_samples(3),
    }
    for name, read in reads.items():
        if content is not None:
            (workdir.path / name).parent.mkdir(exist_ok=True)
            (workdir.path / name).write_text(content)
        with pytest.raises(
            WorkdirError, match=f"{name}: cannot be read .*another --workdir"
        ) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_sample_grids_sort_by_step(workdir):
    names = [workdir.sample_grid(step).name for step in (0, 20, 1000, 300000)]
    assert names == sorted(names) and workdir.sample_grid(20).parent == workdir.samples


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(InputError, match=f"--workdir={tmp_path / name}: a name that is not UTF-8"):
        Workdir(tmp_path / name)


def test_a_home_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/run").path == tmp_path / "run"
