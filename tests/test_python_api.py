"""`ssagan_jax.load_model` and the model's methods, on a tiny model with random weights."""

import dataclasses
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import CAPTIONS, NOISE, REALS, random_state

import ssagan_jax
from ssagan_jax import __main__, main, sample
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.config.schedule import Schedule
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
    workdir.write_schedule(Schedule(steps_per_epoch=2, damsm_steps=3, total_steps=7))
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


def test_pictures_are_scored_upright_and_without_transparency(model, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # As phones write it: to be rotated by 90 degrees.
    image.save(tmp_path / "phone.png", exif=exif)
    clear = image.convert("RGBA")
    clear.putalpha(0)
    with Image.open(tmp_path / "phone.png") as phone:
        found = model.score([phone, clear], [RED, RED])
    wanted = [image.transpose(Image.Transpose.ROTATE_270), Image.new("RGB", (40, 40), "white")]
    np.testing.assert_array_equal(found, model.score(wanted, [RED, RED]))


def test_scores_are_cosines_and_accept_any_picture(model):
    images = model.paint(RED, num=2)
    scores = model.score([*images, np.asarray(images[0])], [RED, RED, RED])
    assert scores.shape == (3,) and (np.abs(scores) <= 1).all() and scores[0] == scores[2]
    assert model.score([images[0]], BLUE) != scores[0]
    large = Image.new("LA", (300, 40), (128, 255))
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
        (lambda m: m.paint(RED, num=0), r"num=0: must be 1 to 100,000"),
        (lambda m: m.paint(RED, num=2.5), r"num=2.5: must be 1 to 100,000"),
        (lambda m: m.paint(RED, seed=-1), r"seed=-1: must be 0 to 4294967295"),
        (lambda m: m.paint(RED, seed="x"), r"seed='x': must be an integer"),
        (lambda m: m.paint(RED, truncation=1.5), r"truncation=1.5: must be in \[0, 1\]"),
        (lambda m: m.paint(RED, best_of=0), r"best_of=0: must be 1 to 100000"),
        (lambda m: m.interpolate(RED), r"to=None: give a caption to go to, or to_seed"),
        (lambda m: m.interpolate(RED, BLUE, 1), r"steps=1: must be 2 or more"),
        (lambda m: m.score([], []), r"captions=\[\]: must be"),
        (lambda m: m.score([3], RED), r"images=3: must be Pillow images or arrays"),
        (lambda m: m.score([NOISE], RED), r"images: float\d+\[.*\]: must be uint8 \[H, W, 3\]"),
        (lambda m: m.score(m.paint(RED), [RED, RED]), r"images: 1, but 2 captions"),
        (
            lambda m: m.score(m.paint(RED)[0], RED),
            r"images=<PIL.*>: must be a list of Pillow images or uint8 arrays \[H, W, 3\], also",
        ),
        (
            lambda m: m.score(np.zeros((64, 64, 3), np.uint8), RED),
            r"images=uint8\[64, 64, 3\]: must be a list of Pillow images",
        ),
        (lambda m: m.score("a.png", RED), r"images='a\.png': must be a list of Pillow images"),
    ],
)
def test_bad_arguments_are_named_with_what_is_allowed(model, call, message):
    with pytest.raises(InputError, match=message):
        call(model)


def test_only_folders_of_models_are_loaded(tmp_path):
    sources = r"a work folder, a model folder or a model's name on the hub"
    with pytest.raises(InputError, match=rf"^3: must be the path of {sources}"):
        ssagan_jax.load_model(3)
    with pytest.raises(
        InputError, match=rf"^{tmp_path}/nope: there is no such folder; give {sources}"
    ):
        ssagan_jax.load_model(tmp_path / "nope")
    message = rf"^{tmp_path}: no trained model here \(config\.json is missing\); give {sources}"
    with pytest.raises(InputError, match=message):
        ssagan_jax.load_model(tmp_path)


def test_without_an_image_encoder_ranking_is_refused(model):
    bare = dataclasses.replace(model, image_encoder=None)
    with pytest.raises(InputError, match="no image encoder"):
        bare.paint(RED, best_of=2)
    assert len(bare.paint(RED)) == 1


@pytest.mark.parametrize(
    "variable",
    ["JAX_ENABLE_X64=1", "JAX_DEFAULT_PRNG_IMPL=rbg", "JAX_THREEFRY_PARTITIONABLE=0"],
)
def test_images_do_not_depend_on_how_the_program_configures_jax(model, folder, variable, tmp_path):
    program = (
        "import logging, pickle, sys, numpy, ssagan_jax\n"
        f"model = ssagan_jax.load_model({str(folder)!r})\n"
        "logging.basicConfig(filename='program.log')\n"
        "logging.warning('of the program')\n"
        "copy = pickle.loads(pickle.dumps(model))\n"
        f"images = [each.paint({RED!r}, num=3, seed=5) for each in (copy, model)]\n"
        "numpy.save('images.npy', images)\n"
    )
    name, value = variable.split("=")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = pixels(model.paint(RED, num=3, seed=5))
    for images in np.load(tmp_path / "images.npy"):
        np.testing.assert_array_equal(images, expected)
    assert "of the program" in (tmp_path / "program.log").read_text()


def test_models_are_keys_of_dictionaries(model):
    assert {model: "ours"}[model] == "ours"


# The commands


def run_sample(monkeypatch, folder, *flags):
    monkeypatch.setattr(sys, "argv", ["sample", f"--workdir={folder}", *map(str, flags)])
    sample.main()


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_command_writes_the_same_images(model, folder, monkeypatch, tmp_path):
    options = {"num": 2, "seed": 3, "truncation": 0.5, "best_of": 2}
    flags = [f"--{name}={value}" for name, value in options.items()]
    run_sample(monkeypatch, folder, f"--caption={RED}", f"--output={tmp_path}", *flags)
    written = [read(path) for path in sorted(tmp_path.glob("000_*.png"))]
    np.testing.assert_array_equal(written, pixels(model.paint(RED, **options)))


def test_the_command_says_when_the_generator_is_untrained(folder, monkeypatch, tmp_path, capsys):
    run_sample(monkeypatch, folder, f"--caption={RED}", "--num=1", f"--output={tmp_path}/a")
    assert "untrained" not in capsys.readouterr().out
    early = Path(shutil.copytree(folder, tmp_path / "run"))
    Workdir(early).write_schedule(Schedule(steps_per_epoch=2, damsm_steps=9, total_steps=20))
    run_sample(monkeypatch, early, f"--caption={RED}", "--num=1", f"--output={tmp_path}/b")
    assert "step 7 is of stage 1, so its generator is untrained" in capsys.readouterr().out


def test_the_command_writes_an_interpolation_as_gif_and_strip(model, folder, monkeypatch):
    run_sample(
        monkeypatch, folder, f"--caption={RED}", f"--caption={BLUE}", "--interpolate=4", "--seed=2"
    )
    output, name = folder / "generated/step_0000007_seed_2", "a-red-car_to_a-blue-truck"
    between = pixels(model.interpolate(RED, BLUE, 4, seed=2))
    strip = read(output / f"strip_{name}.png")
    shown = [strip[4:132:4, 220 + column * 136 :][:, :128:4] for column in range(4)]
    np.testing.assert_array_equal(shown, between)
    with Image.open(output / f"interpolation_{name}.gif") as animation:
        assert (animation.n_frames, animation.size) == (4, (32, 32))
        assert animation.info["loop"] == 0
    assert {path.name for path in output.iterdir()} == {
        f"strip_{name}.png",
        f"interpolation_{name}.gif",
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--truncation=2"], r"--truncation=2\.0: must be in \[0, 1\]"),
        (["--best_of=0"], r"--best_of=0: must be 1 or more"),
        (["--output=README.md"], r"--output=README\.md: is a file; choose another folder"),
        (["--interpolate"], r"--interpolate=8: needs two captions, or one and --to_seed; .* 1"),
        (["--interpolate=1"], r"--interpolate=1: must be 2 images or more"),
        (["--interpolate", "--best_of=2"], r"--best_of=2: cannot be combined"),
        (
            ["--interpolate", "--num=8"],
            r"--num=8: cannot be combined with --interpolate; .* as --interpolate=8",
        ),
        (["--to_seed=1"], r"--to_seed=1: needs --interpolate"),
    ],
)
def test_the_command_refuses_flags_in_one_line(flags, message, folder, monkeypatch, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_sample(monkeypatch, folder, "--caption=a red car", *flags)
    assert exit_.value.code == 2
    assert re.search(f"^error: {message}", capsys.readouterr().err)


# The package


def test_configs_are_found_by_name_in_a_clone():
    configs = Path(__file__).parents[1] / "configs"
    assert main.find_config("bert:my_cars") == f"{configs / 'bert.py'}:my_cars"
    assert main.find_config("quickstart") == str(configs / "quickstart.py")
    assert main.find_config("configs/bert.py:birds") == "configs/bert.py:birds"
    assert main.default_workdir(main.find_config("bert:my_cars")) == "runs/bert-my_cars"
    with pytest.raises(InputError, match="--config=nothing:a: no config of that name; .*lstm"):
        main.find_config("nothing:a")


def test_the_built_package_holds_the_configs_and_runs_in_any_folder(tmp_path):
    pytest.importorskip("setuptools")
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib")}

    def python(*arguments, cwd):
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)

    build = python("setup.py", "-q", "build_py", f"--build-lib={tmp_path / 'lib'}", cwd=root)
    assert build.returncode == 0, build.stderr
    for name in ("quickstart:my_cars", "nothing"):
        # Whether the config was found shows in the next complaint.
        flags = [f"--config={name}", "--config.data.image_size=48"]
        done = python("-m", "ssagan_jax", "train", *flags, cwd=tmp_path)
        wanted = "no config of that name" if name == "nothing" else "image_size=48: must be 32"
        assert done.returncode == 2 and wanted in done.stderr, done.stderr


def test_the_console_command_lists_its_commands(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ssagan_jax", "--help"])
    __main__.main()
    output = capsys.readouterr().out
    for name, (module, text) in __main__.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", output, re.MULTILINE)
        assert (Path(ssagan_jax.__file__).parent / f"{module}.py").is_file()
    monkeypatch.setattr(sys, "argv", ["ssagan_jax", "nothing"])
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert "'nothing': must be one of train, prepare" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # The module has been imported before.
@pytest.mark.parametrize("command", [name for name in __main__.COMMANDS if name != "train"])
def test_help_names_the_command_as_it_was_started(command, capsys, monkeypatch):
    module, _ = __main__.COMMANDS[command]
    main_of_module = importlib.import_module(f"ssagan_jax.{module}").main
    for start, argv, name in (
        (main_of_module, [f"/clone/ssagan_jax/{module}.py"], f"python -m ssagan_jax.{module}"),
        (__main__.main, ["/bin/ssagan_jax", command], f"ssagan_jax {command}"),
    ):
        monkeypatch.setattr(sys, "argv", [*argv, "--help"])
        with pytest.raises(SystemExit):
            start()
        text = capsys.readouterr().out
        assert text.startswith(f"usage: {name} [-h]")
        assert f"{name} --" in text.partition("options:")[0], text


def test_help_of_the_training_command_names_it_as_it_was_started():
    for started, name in (
        (["ssagan_jax", "train"], "ssagan_jax train"),
        (["ssagan_jax.main"], "python -m ssagan_jax.main"),
    ):
        command = [sys.executable, "-m", *started, "--help"]
        text = subprocess.run(command, capture_output=True, text=True).stdout
        assert text.startswith(f"Trains a model: `{name} --config=bert`.") and "--workdir" in text
