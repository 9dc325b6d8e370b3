"""Model folders: what is written, what comes back, and what is refused."""

import copy
import dataclasses
import json
import shutil
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_run
import yaml
from PIL import Image

from ssagan_jax import export
from ssagan_jax.config import ConfigError
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.tokenizer import (
    TokenizerError,
    fixed_vocab_tokenizer,
    learn_tokenizer,
    tokenizer_from_json,
)
from ssagan_jax.errors import InputError
from ssagan_jax.exporting import model_card
from ssagan_jax.inference.model_folder import ModelFolderError, write_model_folder
from ssagan_jax.inference.model_loading import load_model
from ssagan_jax.steps.state import initial_state, network_variables
from ssagan_jax.training.warm_start import (
    warm_start_state,
    warm_start_tokenizer,
    with_warm_start_encoders,
    with_warm_start_sizes,
)

CAPTIONS = ["a red car", "a blue truck on the beach", "unknown"]


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """A work folder with averaged weights."""
    return tiny_run.make_run(
        tmp_path_factory.mktemp("runs") / "tiny",
        tiny_config,
        train__ema_decay=0.9,
        data__dir="/home/someone/birds",
        generator__upsampling="bilinear",
    )


@pytest.fixture(scope="module")
def original(run):
    return load_model(run.path)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The folder of the command."""
    folder = tmp_path_factory.mktemp("exported") / "cars"
    command(run, folder, "--license=cc-by-4.0")
    return folder


def command(run, output, *flags):
    with pytest.MonkeyPatch.context() as patch:
        workdir = getattr(run, "path", run)
        arguments = [f"--workdir={workdir}", f"--output={output}", *flags]
        patch.setattr(sys, "argv", ["export", *arguments])
        export.main()


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of the folder to damage."""
    return shutil.copytree(exported, tmp_path / "copied")


# What comes back


def test_the_same_images_come_back_bit_for_bit(original, exported):
    model = load_model(str(exported))
    images = tiny_run.paint(model, CAPTIONS)
    np.testing.assert_array_equal(images, tiny_run.paint(original, CAPTIONS))
    assert images.std() > 10
    assert model.step == tiny_run.STEP and model.example_captions == tuple(tiny_run.CAPTIONS)
    assert model.tokenizer.digest == original.tokenizer.digest
    scores = [each.score(images[:, 0].astype(np.uint8), CAPTIONS) for each in (model, original)]
    np.testing.assert_array_equal(*scores)
    tensors = safetensors.numpy.load_file(exported / "image_encoder.safetensors")
    for name, tensor in tensors.items():
        loaded = model.image_encoder
        for key in name.split("/"):
            loaded = loaded[key]
        np.testing.assert_array_equal(loaded, tensor)


def test_the_averaged_weights_are_exported(run, exported, original):
    stored = safetensors.numpy.load_file(exported / "generator.safetensors")
    averaged = original.variables["generator"]["params"]["block0"]["residual_gain"]
    np.testing.assert_array_equal(stored["params/block0/residual_gain"], averaged)
    assert {name.partition("/")[0] for name in stored} == {"params", "batch_stats"}


def test_float16_halves_the_files_and_hardly_changes_the_images(run, original, exported, tmp_path):
    command(run, tmp_path / "half", "--dtype=float16")
    sizes = [
        sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for folder in (exported, tmp_path / "half")
    ]
    assert 0.5 < sizes[1] / sizes[0] < 0.8  # Names take a part of so small files.
    stored = safetensors.numpy.load_file(tmp_path / "half/generator.safetensors")
    types = {name.partition("/")[0]: tensor.dtype for name, tensor in stored.items()}
    assert types == {"params": np.float16, "batch_stats": np.float32}
    images = tiny_run.paint(load_model(tmp_path / "half"), CAPTIONS)
    difference = np.abs(images - tiny_run.paint(original, CAPTIONS))
    assert 0 < difference.max() <= 8


def test_a_number_too_large_for_float16_stays_float32(original, tmp_path):
    gain = original.variables["generator"]["params"]["block0"]["residual_gain"]
    large = np.full_like(gain, 1e6)
    params = dict(original.variables["generator"]["params"])
    params["block0"] = dict(params["block0"]) | {"residual_gain": large}
    variables = dict(original.variables)
    variables["generator"] = dict(variables["generator"]) | {"params": params}
    model = dataclasses.replace(original, variables=variables)
    write_model_folder(tmp_path, model, "float16")
    stored = safetensors.numpy.load_file(tmp_path / "generator.safetensors")
    np.testing.assert_array_equal(stored["params/block0/residual_gain"], large)


def test_bert_comes_back(tiny_config, tmp_path):
    run = tiny_run.make_run(
        tmp_path / "run",
        tiny_config,
        text_encoder__name="bert",
        tokenizer__kind="wordpiece",
        text_encoder__hidden_size=8,
        text_encoder__num_heads=2,
        text_encoder__num_layers=2,
        text_encoder__intermediate_size=8,
        image_encoder__name="inception_v3",
        image_encoder__weights="/home/someone/inception.pth",
    )
    original = load_model(run.path)
    (tmp_path / "out").mkdir()
    write_model_folder(tmp_path / "out", original)
    assert not (tmp_path / "out/image_encoder.safetensors").exists()
    model = load_model(tmp_path / "out")
    assert model.image_encoder is None and model.tokenizer.digest == original.tokenizer.digest
    before, after = (each.variables["text"]["bert"] for each in (original, model))
    assert before.keys() == after.keys()
    np.testing.assert_array_equal(before["word_embeddings"], after["word_embeddings"])


def test_conditioning_augmentation_comes_back(tiny_config, tmp_path):
    run = tiny_run.make_run(
        tmp_path / "run", tiny_config, generator__conditioning_augmentation=True
    )
    original = load_model(run.path)
    (tmp_path / "out").mkdir()
    write_model_folder(tmp_path / "out", original)
    images = tiny_run.paint(load_model(tmp_path / "out"), CAPTIONS)
    np.testing.assert_array_equal(images, tiny_run.paint(original, CAPTIONS))


# What is written


def test_the_folder_has_no_pickle_no_optimizer_and_no_path(exported):
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "generator.safetensors",
        "image_encoder.safetensors",
        "samples.png",
        "text_encoder.safetensors",
        "tokenizer.json",
    }
    config = json.loads((exported / "config.json").read_text())
    assert config["config"]["data"]["dir"] == "birds"
    with Image.open(exported / "samples.png") as image:
        assert image.size == (220 + 4 * 136 + 8, 2 * 136 + 8)


def test_the_model_card_says_what_the_model_is(run, exported):
    text = (exported / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert (front["license"], front["pipeline_tag"]) == ("cc-by-4.0", "text-to-image")
    assert "| train data | 80 images with 160 captions |" in body
    assert "10 steps of both encoders (DAMSM), then 20 of the GAN (2.0 epochs), 8 images" in body
    assert "| Diversity | 0.250 | features: a\\|b |" in body
    assert "| Color correct | 0.500 | num_captions: 7 |" in body and "- All: seed: 5." in body
    assert '| `generator.upsampling` | `"bilinear"` |' in body
    assert 'load_model("cars")' in body and "/home" not in text and str(run.path) not in text


def test_a_run_without_sample_grids_counts_and_scores_is_exported(tiny_config, tmp_path):
    run = tiny_run.make_run(tmp_path / "run", tiny_config)
    shutil.rmtree(run.samples)
    run.metrics.unlink()
    (run.path / "dataset.json").unlink()
    command(run, tmp_path / "out")
    assert not (tmp_path / "out/samples.png").exists()
    text = (tmp_path / "out/README.md").read_text()
    assert "| train data | 80 images, up to one batch |" in text
    assert "This checkpoint was not scored." in text and "samples.png" not in text
    assert "license:" not in text and "None was named; ask" in text
    assert load_model(tmp_path / "out").example_captions == ()


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "mit: x", "../x"])
def test_a_license_is_an_identifier(name):
    with pytest.raises(InputError, match="--license=.*identifier"):
        model_card.check_license(name)


# Bad input


@pytest.fixture
def refused(capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit) as caught:
            command(*arguments)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
        return error

    return refused


def test_bad_flags_are_refused_and_nothing_is_written(
    run, exported, refused, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert "exists already; choose a new folder" in refused(run, exported)
    (tmp_path / "file").touch()
    assert "file cannot be written; choose another" in refused(run, tmp_path / "file/out")
    assert "no trained model here" in refused(tmp_path / "none", out)
    assert (
        f"--workdir={exported}: is an exported model folder, which has no checkpoints, data or "
        "scores; give the work folder of its training (sample, serve and load_model open"
    ) in refused(exported, out)
    assert "begins after step 10; choose a later one of [10, 30]" in refused(
        run, out, "--checkpoint=10"
    )
    assert "no checkpoint 7; there are [10, 30]" in refused(run, out, "--checkpoint=7")
    monkeypatch.setattr(export, "write_model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command(run, out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def change_config(folder, key, value):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    *sections, last = key.split("/")
    target = content
    for section in sections:
        target = target[section]
    target[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("format_version", 2, ModelFolderError, "newer than this version .* upgrade ssagan_jax"),
        ("format_version", None, ModelFolderError, "not the config of a model folder"),
        ("step", "x", ModelFolderError, "not the config of a model folder"),
        ("example_captions", ["a"] * 65, ModelFolderError, "not the config of a model folder"),
        ("example_captions", ["a" * 1001], ModelFolderError, "not the config of a model folder"),
        ("example_captions", [1], ModelFolderError, "not the config of a model folder"),
        ("note", "x" * 2**20, ModelFolderError, "bytes are more than the 1048576 allowed"),
        (
            "config/generator/nothing",
            1,
            ModelFolderError,
            r"not a config of this version \(there is no key generator\.nothing\)$",
        ),
        ("config/generator/channels", "4", ModelFolderError, "not a config of this version"),
        ("config/generator/channels", 0, ConfigError, "generator.channels=0: must be 1 or more"),
        ("config/data/image_size", 2**20, ConfigError, "image_size=1048576: must be 32, 64"),
        ("config/generator/channels", 10**9, ModelFolderError, "exceeds the .* stored numbers"),
        ("config/generator/channels", 8, ModelFolderError, r"has shape \[.*, not \["),
        (
            "config/data/image_size",
            64,
            ModelFolderError,
            r"has shape \[16\], not \[32\]; .* and [0-9]+ more",
        ),
        ("config/generator/ssacn_blocks", 1, ModelFolderError, "norm0/mean is missing"),
    ],
)
def test_configs_that_fit_no_model_are_refused(copied, key, value, error, message):
    change_config(copied, key, value)
    with pytest.raises(error, match=message) as caught:
        load_model(copied)
    assert "\n" not in str(caught.value)


def test_a_config_cannot_make_the_loader_build_without_bound(tiny_config, tmp_path, copied):
    change_config(copied, "config/text_encoder/name", "bert")
    change_config(copied, "config/tokenizer/kind", "wordpiece")
    change_config(copied, "config/text_encoder/num_layers", 60_000)
    with pytest.raises(ModelFolderError, match="num_layers=60000 exceeds the 9 stored tensors"):
        load_model(copied)


def change_tensors(folder, change):
    path = folder / "generator.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


GAIN = "params/block0/residual_gain"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(GAIN), "block0/residual_gain is missing"),
        (lambda tensors: tensors.update(other=np.zeros(1, np.float32)), "other is unknown"),
        (lambda t: t.update({GAIN: np.zeros(2, np.float32)}), r"gain has shape \[2\], not \[1\]"),
        (
            lambda t: t.update({GAIN: np.zeros(1, np.int32)}),
            "type I32; allowed: F32, F16; convert it, or",
        ),
        (
            lambda t: t.update({GAIN: np.zeros(1, np.float64)}),
            "type F64; allowed: F32, F16; convert it, or",
        ),
        (lambda tensors: tensors.clear(), "is missing; .* and [0-9]+ more"),
    ],
)
def test_tensors_that_do_not_fit_are_named(copied, change, message):
    change_tensors(copied, change)
    with pytest.raises(ModelFolderError, match=message):
        load_model(copied)


def test_damaged_files_are_refused(copied):
    path = copied / "text_encoder.safetensors"
    content = path.read_bytes()
    huge = json.dumps(
        {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    for damaged in (
        b"",
        content[:-1],
        content[:100],
        b"\x80\x04." + content,
        len(huge).to_bytes(8, "little") + huge,
        (2**60).to_bytes(8, "little") + huge,
    ):
        path.write_bytes(damaged)
        with pytest.raises(ModelFolderError, match=r"text_encoder\.safetensors: is damaged"):
            load_model(copied)
    path.unlink()
    with pytest.raises(ModelFolderError, match=r"text_encoder\.safetensors: is missing"):
        load_model(copied)
    (copied / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"no model here \(config.json is missing\)"):
        load_model(copied)


def test_a_model_folder_has_one_checkpoint(exported):
    message = r"checkpoint=7: .* is a model folder with a single checkpoint \(step 30\); leave"
    with pytest.raises(InputError, match=message):
        load_model(exported, 7)


@pytest.mark.parametrize("kind", ["words", "wordpiece", "listed_words"])
def test_tokenizers_of_unknown_origin_cannot_make_captions_grow(kind):
    if kind == "listed_words":
        tokenizer = fixed_vocab_tokenizer(["<end>", "red"])
    else:
        tokenizer = learn_tokenizer(kind, tiny_run.CAPTIONS, 200)
    assert tokenizer_from_json(tokenizer.to_json()).digest == tokenizer.digest
    growing = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}
    padding = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
    for key, value in (
        ("normalizer", {"type": "Sequence", "normalizers": [growing] * 20}),
        ("padding", padding),
        ("model", {"type": "BPE", "vocab": {}, "merges": []}),
    ):
        content = json.loads(tokenizer.to_json())
        content["tokenizer"][key] = value
        with pytest.raises(TokenizerError, match="pipeline is not that of a"):
            tokenizer_from_json(json.dumps(content))


def warm_start_config(tiny_config, folder):
    config = copy.deepcopy(tiny_config)
    config.generator.channels, config.train.ema_decay = 8, 0.9
    config.discriminator.channels = 3
    config.train.checkpoint = str(folder)
    return config


def test_a_run_starts_from_a_model_folder_with_a_new_discriminator(tiny_config, exported, original):
    given = warm_start_config(tiny_config, exported)
    config = with_warm_start_sizes(given)
    assert config.generator.channels == original.config.generator.channels != 8
    assert config.discriminator.channels == 3  # There is none in the folder.
    assert given.generator.channels == 8  # It is not the caller's config that changes.
    tokenizer = warm_start_tokenizer(config, CAPTIONS[:2])
    assert tokenizer.digest == original.tokenizer.digest
    state = warm_start_state(config)
    assert int(state.step) == 0
    variables = network_variables(state)
    jax.tree.map(np.testing.assert_array_equal, state.ema, original.variables["generator"])
    jax.tree.map(np.testing.assert_array_equal, variables["generator"], state.ema)
    jax.tree.map(np.testing.assert_array_equal, variables["image_encoder"], original.image_encoder)
    drawn = initial_state(config, tokenizer.vocabulary).discriminator
    jax.tree.map(np.testing.assert_allclose, state.discriminator, drawn)


def test_encoders_of_a_model_folder_replace_stage_1(tiny_config, exported, original):
    config = copy.deepcopy(tiny_config)
    config.damsm.checkpoint = str(exported)
    state = initial_state(config, original.tokenizer.vocabulary)
    encoders = with_warm_start_encoders(state, config).encoders
    jax.tree.map(np.testing.assert_array_equal, encoders["text"], original.variables["text"])
    jax.tree.map(np.testing.assert_array_equal, encoders["image"], original.image_encoder["params"])


def test_discriminator_keys_of_a_run_from_a_model_folder_stay_its_own(tiny_config, exported, run):
    """A resumed run then refuses others, as it does for all keys."""
    given = warm_start_config(tiny_config, exported)
    assert with_warm_start_sizes(given, resumed=run).discriminator.channels == 3
    given.train.checkpoint = str(run.path)
    theirs = run.config().discriminator.channels
    assert with_warm_start_sizes(given, resumed=run).discriminator.channels == theirs != 3


def test_keys_that_do_not_fit_the_source_are_explained(tiny_config, run):
    config = warm_start_config(tiny_config, run.path)
    config.discriminator.projection_channels, config.loss.contrastive_weight = 64, 1.0
    config.train.encoders = "frozen"
    message = r"projection_channels=0: .* \(sizes are those of config\.train\.checkpoint="
    with pytest.raises(ConfigError, match=message):
        with_warm_start_sizes(config)


@pytest.mark.parametrize(
    "damsm_steps, key", [(40, "damsm"), (40, "train"), (tiny_run.STEP, "train")]
)
def test_runs_that_are_not_trained_so_far_are_no_start(tiny_config, tmp_path, damsm_steps, key):
    source = tiny_run.make_run(tmp_path, tiny_config)
    source.write_schedule(Schedule(10, damsm_steps, 60))
    config = copy.deepcopy(tiny_config)
    config[key].checkpoint = str(tmp_path)
    with pytest.raises(ConfigError, match=rf"config\.{key}\.checkpoint=.* trained"):
        if key == "train":
            warm_start_state(with_warm_start_sizes(config))
        else:
            state = initial_state(config, source.tokenizer().vocabulary)
            with_warm_start_encoders(state, config)


def test_dropout_may_differ_from_that_of_the_encoders_source(tiny_config, run):
    config = copy.deepcopy(tiny_config)
    config.damsm.checkpoint, config.text_encoder.dropout = str(run.path), 0.3
    state = initial_state(config, run.tokenizer().vocabulary)
    assert with_warm_start_encoders(state, config).encoders is not state.encoders


def test_training_needs_the_image_encoder(tiny_config, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "image_encoder.safetensors").unlink()
    message = r"config\.train\.checkpoint=.*model: has no image encoder.*from its work folder"
    with pytest.raises(ConfigError, match=message):
        with_warm_start_sizes(warm_start_config(tiny_config, folder))
