"""The commands from end to end, on a model so small that it only compiles."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from absl.testing import flagsaver
from PIL import Image
from test_stage_profile import traced_steps

from ssagan_jax import evaluate, main, sample
from ssagan_jax.config import flatten
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.inference.model_loading import load_state
from ssagan_jax.reporting.tensorboard_events import read_events
from ssagan_jax.workdir import Workdir

ROOT = Path(__file__).parents[1]
TINY = tiny.SIZES | {
    "train.batch_size": 8,
    "damsm.steps": 4,
    "train.steps": 16,
    "log.scalars_every": 1,
    "log.checkpoint_every": 2,
    "log.keep_checkpoints": 2,
    "log.sample_grid_rows": 4,
    "log.health_every": 8,
    "loss.mismatched": "nearest",
    "loss.sentence_queue": 20,
    "loss.contrastive_captions": 2,
    "loss.lecam_weight": 0.1,
    "loss.magp_every": 2,
    "eval.best": "encoder_frechet",
}
STEPS = 20
SCORES = [
    "encoder_frechet",
    "r_precision",
    "attributes/color",
    "attributes/facing",
    "diversity",
    "nearest_training_picture",
    "retrieval/r1",
    "retrieval/r5",
    "retrieval/mean_rank",
]
RECIPE = {
    "num_real",
    "num_generated",
    "split",
    "features",
    "weights_sha256",
    "resize",
    "value_range",
    "checkpoint",
    "weights",
    "seed",
    "versions",
    "real_statistics",
}

# Runs the command and sends itself a signal after so many steps.
SIGNAL_AFTER_STEPS = """
import os, signal
from ssagan_jax import main
from ssagan_jax.training.step_monitor import StepMonitor

after_step, left = StepMonitor.after_step, {steps}

def after_step_and_signal(monitor, step, metrics):
    global left
    after_step(monitor, step, metrics)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.{name})

StepMonitor.after_step = after_step_and_signal
main.run_command()
"""
# Runs the command and kills it while it writes the checkpoint of a step.
KILL_WHILE_WRITING = """
import os, signal
from ssagan_jax import main
from ssagan_jax.checkpointing import checkpoints

save = checkpoints.Checkpoints.save

def save_and_kill(self, state, batches):
    save(self, state, batches)
    if int(state.step) == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoints.Checkpoints.save = save_and_kill
main.run_command()
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for prepared data and work folders."""
    return tmp_path_factory.mktemp("cli")


def command(*arguments):
    """Runs python with arguments, without a network."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests/no_network'}:{ROOT}"},
        timeout=600,
    )


@pytest.fixture(scope="module")
def train(shared):
    """Runs the training command at tiny size; `program` stands in for the module."""

    def run(workdir, program=None, **options):
        values = TINY | {"data.prepared_dir": shared / "prepared"} | options
        return command(
            *(("-c", program) if program else ("-m", "ssagan_jax.main")),
            "--config=configs/lstm.py",
            f"--workdir={workdir}",
            *(f"--config.{key}={value}" for key, value in values.items()),
        )

    return run


@pytest.fixture(scope="module")
def finished(train, shared):
    """The work folder of an uninterrupted run, and its process."""
    done = train(shared / "finished")
    assert done.returncode == 0, done.stderr
    return shared / "finished", done


@pytest.fixture(scope="module")
def interrupted(finished, train, shared):
    """Two chains of runs, of which all but the last are interrupted, by their folders' names."""
    chains = {
        "stopped": (
            SIGNAL_AFTER_STEPS.format(steps=2, name="SIGTERM"),
            SIGNAL_AFTER_STEPS.format(steps=3, name="SIGINT"),
            None,
        ),
        # At the end of stage 1.
        "killed": (KILL_WHILE_WRITING.format(step=4), None),
    }

    def run_chain(name):
        return shared / name, [train(shared / name, program) for program in chains[name]]

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(chains, pool.map(run_chain, chains), strict=True))


def position(workdir, step):
    return json.loads((workdir / f"checkpoints/{step}/meta/metadata").read_text())["position"]


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def assert_same_end(workdir, other):
    """Both runs ended with the same bits, at the same position in the data."""
    ours, theirs = (load_state(Workdir(folder)) for folder in (workdir, other))
    assert int(ours.step) == int(theirs.step) == STEPS
    paths = jax.tree_util.tree_leaves_with_path(ours)
    for (path, left), right in zip(paths, jax.tree.leaves(theirs), strict=True):
        name = jax.tree_util.keystr(path)
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes(), name
    assert position(workdir, STEPS) == position(other, STEPS)
    files = f"samples/step_{STEPS:07d}.png", "eval/metrics.jsonl", "tokenizer.json"
    for name in (*files, "health.jsonl", "best.json"):
        assert (workdir / name).read_bytes() == (other / name).read_bytes()


def test_training_leaves_what_later_commands_need(finished):
    workdir, done = finished
    assert {"config.json", "tokenizer.json", "checkpoints", "samples", "train.log"} <= set(
        os.listdir(workdir)
    )
    config = flatten(Workdir(workdir).config())
    assert {key: config[key] for key in TINY} == TINY
    assert Workdir(workdir).tokenizer().unknown_words("a red car") == []
    assert Workdir(workdir).checkpoint_steps() == [18, 20]
    assert not list(workdir.rglob("*.part"))
    assert "4 encoder steps, then 16 GAN steps, on 4 cpu device(s); now at step 0" in done.stdout
    assert f"trained 20 steps; sample grid: {workdir}/samples/step_0000020.png" in done.stdout
    assert "Traceback" not in done.stderr


def test_both_stages_change_what_they_train(finished):
    workdir, _ = finished
    before, after = (load_state(Workdir(workdir), step) for step in (18, 20))
    for name in ("encoders", "generator", "discriminator", "batch_stats"):
        left, right = (jax.tree.leaves(getattr(state, name)) for state in (before, after))
        assert all(np.isfinite(leaf).all() for leaf in right)
        moved = [not np.array_equal(*pair) for pair in zip(left, right, strict=True)]
        assert np.mean(moved) > 0.9, name


def test_a_sample_grid_shows_real_generated_and_mask_of_each_caption(finished):
    workdir, _ = finished
    grid = pixels(workdir / "samples/step_0000020.png")
    # Four rows and three columns of 32 pixels, shown four times as large.
    assert grid.shape == (24 + 4 * 136 + 8, 220 + 3 * 136 + 8, 3)
    corners = [(24 + row * 136 + 4, 220 + column * 136) for row in range(4) for column in range(3)]
    cells = [grid[y : y + 128, x : x + 128] for y, x in corners]
    for row in range(4):
        real, generated, mask = cells[3 * row : 3 * row + 3]
        assert not np.array_equal(real, generated)
        assert min(len(np.unique(image)) for image in (real, generated)) > 10
        # A mask of an untrained predictor is gray, and nowhere near black or white.
        assert (mask == mask[..., :1]).all() and 40 < mask.min() <= mask.max() < 215
    assert len({cells[3 * row].tobytes() for row in range(4)}) == 4
    text = grid[24:160, :220]
    assert text.min() < 100 and (text > 250).mean() > 0.5


def test_scalars_and_images_are_written_for_tensorboard(finished):
    workdir, _ = finished
    (events,) = workdir.glob("events.*")
    content = events.read_bytes()
    for tag in (
        b"damsm/words",
        b"generator/adversarial",
        b"discriminator/magp",
        b"sample_grid",
        b"time/epoch",
        b"encoder_frechet",
    ):
        assert tag in content
    values, _ = read_events(workdir)
    assert sorted(values["discriminator/lecam"]) == list(range(5, STEPS + 1))
    # loss.magp_every is 2.
    assert sorted(values["discriminator/magp"]) == list(range(6, STEPS + 1, 2))


def test_scores_are_rows_with_their_recipe(finished):
    workdir, done = finished
    rows = list(map(json.loads, (workdir / "eval/metrics.jsonl").read_text().splitlines()))
    assert [row["name"] for row in rows] == SCORES
    for row in rows:
        assert (row["step"], row["epoch"], row["stage"]) == (STEPS, 16 / 80, "gan")
        assert row["split"] == row["recipe"]["split"] == "validation"
        assert row["recipe"].keys() >= RECIPE
        assert f"{row['name']:26} {row['value']:.4g}\n" in done.stdout
    values, recipes = ({row["name"]: row[key] for row in rows} for key in ("value", "recipe"))
    assert 0 <= values["attributes/color"] <= 1 and 1 <= values["retrieval/mean_rank"] <= 160
    frechet = recipes["encoder_frechet"]
    assert frechet["num_real"] == frechet["num_generated"] == 160
    assert recipes["attributes/color"]["num_captions"] == 160
    assert recipes["r_precision"]["mismatched"] == 99
    closest = recipes["nearest_training_picture"]["closest"]
    assert re.fullmatch(r"\d{5}", closest["training_picture"]) and closest["caption"]


def test_evaluate_computes_the_scores_of_training(finished, tmp_path):
    workdir, _ = finished
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("config.json", "tokenizer.json", "schedule.json", "checkpoints"):
        (moved / name).symlink_to(workdir / name)
    done = command("-m", "ssagan_jax.evaluate", f"--workdir={moved}", "--checkpoint=all")
    assert done.returncode == 0, done.stderr
    rows = (moved / "eval/metrics.jsonl").read_text().splitlines()
    assert {json.loads(row)["step"] for row in rows} == {18, 20}
    of_last = [row for row in rows if json.loads(row)["step"] == STEPS]
    assert of_last == (workdir / "eval/metrics.jsonl").read_text().splitlines()
    assert "no Inception v3 weights" in done.stdout and "step 18, validation:\n" in done.stdout
    (events,) = (moved / "eval").glob("events.*")
    assert b"encoder_frechet" in events.read_bytes()


def assert_refused(run, message, capsys):
    """A command exits with code 2 and one error message; returns it."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run()
    errors = capsys.readouterr().err
    assert caught.value.code == 2
    assert re.match(f"error: .*{message}", errors), errors
    assert "Traceback" not in errors and errors.count("error:") == 1
    return errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"EMPTY: no trained model here"),
        (
            ("--workdir=RUN", "--checkpoint=7"),
            r"=7: must be all, best or one of \[18, 20\]",
        ),
        (("--workdir=RUN", "--num=-1"), r"--num=-1: must be 0 or more"),
        (("--workdir=RUN", "--seed=-1"), r"--seed=-1: must be 0 to 4294967295"),
        (("--workdir=RUN", "--splits=0"), r"config\.eval\.splits=0: must be 1 or more"),
        (
            ("--workdir=RUN", "--inception_weights=no.pth"),
            r"'no\.pth': there is no such file; fetch https://",
        ),
    ],
)
def test_evaluate_refuses_in_one_line(arguments, message, finished, monkeypatch, capsys, tmp_path):
    before = (finished[0] / "eval/metrics.jsonl").read_bytes()
    arguments = [argument.replace("RUN", str(finished[0])) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["evaluate", f"--workdir={tmp_path}", *arguments])
    message = message.replace("EMPTY", str(tmp_path))
    assert assert_refused(evaluate.main, message, capsys).count("\n") == 1
    assert (finished[0] / "eval/metrics.jsonl").read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_the_same_command_again_takes_no_step_and_names_the_sample_grid(finished, train):
    workdir, first = finished

    def modification_times():
        return {path: path.stat().st_mtime_ns for path in (workdir / "checkpoints").rglob("*")}

    before = modification_times()
    done = train(workdir)
    assert done.returncode == 0 and "training in" not in done.stdout
    assert done.stdout.splitlines() == first.stdout.splitlines()[-len(SCORES) - 1 :]
    assert modification_times() == before


def test_a_run_stopped_by_a_signal_resumes_to_the_same_bits(interrupted, finished):
    workdir, (terminated, stopped, last) = interrupted["stopped"]
    assert terminated.returncode == 128 + signal.SIGTERM == 143
    assert "checkpoint saved at step 2; run the same command to resume" in terminated.stdout
    assert stopped.returncode == 128 + signal.SIGINT == 130
    assert "now at step 2" in stopped.stdout and "checkpoint saved at step 5" in stopped.stdout
    assert last.returncode == 0 and "now at step 5" in last.stdout
    for done in (terminated, stopped, last):
        assert "Traceback" not in done.stderr
    assert_same_end(workdir, finished[0])


def test_a_run_killed_while_it_writes_a_checkpoint_resumes_to_the_same_bits(interrupted, finished):
    workdir, (killed, last) = interrupted["killed"]
    assert killed.returncode == -signal.SIGKILL
    assert last.returncode == 0 and "Traceback" not in last.stderr
    assert re.search("now at step [24]", last.stdout)
    assert_same_end(workdir, finished[0])


def test_twenty_steps_give_the_same_bits_twice(finished, train, shared):
    # Two processes, whose threads the machine schedules as it likes.
    done = train(shared / "again", **{"log.profile": True, "data.device_cache_mb": 64})
    assert done.returncode == 0, done.stderr
    assert_same_end(shared / "again", finished[0])
    # The stage of the encoders is too short to be traced.
    traces = [traced_steps(folder) for folder in (finished[0], shared / "again")]
    assert traces == [[], [[14, 15, 16, 17, 18, 19]]]


def test_fine_tuning_starts_from_another_run_and_resumes_without_it(finished, train, shared):
    source = shutil.copytree(finished[0], shared / "source")
    options = {"train.checkpoint": source, "generator.channels": 8}
    done = train(shared / "tuned", **options, **{"train.steps": 2})
    assert done.returncode == 0, done.stderr
    assert "0 encoder steps, then 2 GAN steps" in done.stdout
    tuned = Workdir(shared / "tuned")
    assert tuned.tokenizer().digest == Workdir(source).tokenizer().digest
    assert tuned.config().generator.channels == 4
    ours, theirs = (load_state(Workdir(folder)) for folder in (tuned.path, source))
    assert int(ours.step) == 2
    rates = {"encoders": 4e-5, "generator": 1e-4, "discriminator": 4e-4}
    for name, rate in rates.items():
        moved = jax.tree.map(
            lambda *pair: np.abs(np.subtract(*pair)).max(),
            *(getattr(state, name) for state in (ours, theirs)),
        )
        # A step of Adam moves a weight by not much more than its rate.
        assert 0 < max(jax.tree.leaves(moved)) < 5 * rate, name
    shutil.rmtree(source)
    resumed = train(tuned.path, **options, **{"train.steps": 3})
    assert resumed.returncode == 0, resumed.stderr
    assert "now at step 2" in resumed.stdout


def test_a_work_folder_without_a_schedule_is_refused_in_one_line(finished, train, shared):
    incomplete = shutil.copytree(finished[0], shared / "incomplete")
    (incomplete / "schedule.json").unlink()
    done = train(incomplete)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.match(
        r"error: .*/incomplete/schedule.json: cannot be read .*another --work", done.stderr
    )


@pytest.fixture
def run_sample(finished, monkeypatch, capsys):
    """Runs the sampling command within this process; returns its output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sample", f"--workdir={finished[0]}", *arguments])
        sample.main()
        return capsys.readouterr().out

    return run


def png_files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


CAPTIONS = ("--caption=A red car, a RED car!", "--caption=a plaid car", "--num=2")


def test_sampling_needs_only_the_work_folder(finished, run_sample, tmp_path):
    workdir, _ = finished
    # The data set and what was compiled are not where the run left them.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("config.json", "tokenizer.json", "checkpoints"):
        (moved / name).symlink_to(workdir / name)
    done = command("-m", "ssagan_jax.sample", f"--workdir={moved}", *CAPTIONS)
    assert (done.returncode, done.stderr) == (0, "")
    folder = moved / "generated/step_0000020_seed_0"
    assert done.stdout.splitlines() == [
        "unknown words in 'a plaid car': plaid",
        f"4 images of step 20; grid: {folder}/grid.png",
    ]
    assert sorted(png_files(folder)) == [
        "000_a-red-car-a-red-car_000.png",
        "000_a-red-car-a-red-car_001.png",
        "001_a-plaid-car_000.png",
        "001_a-plaid-car_001.png",
        "grid.png",
    ]
    assert pixels(folder / "grid.png").shape == (2 * 136 + 8, 220 + 2 * 136 + 8, 3)
    for path in folder.glob("0*.png"):
        assert pixels(path).shape == (32, 32, 3) and len(np.unique(pixels(path))) > 10
    # Another process generates the same files, to the bit.
    run_sample(*CAPTIONS, f"--output={tmp_path / 'again'}")
    assert png_files(tmp_path / "again") == png_files(folder)


def test_names_of_files_have_the_captions_words_in_any_language():
    assert sample._words_of("A red car, on the beach!") == "a-red-car-on-the-beach"
    assert sample._words_of("Ein grünes Auto") == "ein-grünes-auto"
    assert sample._words_of("车" * 30) == "车" * 20


def test_the_seed_determines_the_images(run_sample, tmp_path):
    for name, seed in (("one", 1), ("other", 2), ("one-again", 1)):
        run_sample(
            "--caption=a red car", "--num=2", f"--seed={seed}", f"--output={tmp_path / name}"
        )
    one, other, again = (png_files(tmp_path / name) for name in ("one", "other", "one-again"))
    assert one == again and one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
    assert len(set(one.values())) == 3


def test_a_tilde_in_a_flag_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = command_parser("sample", "")
    parser.add_argument("--output")
    parser.add_argument("--workdir", nargs="+")
    parser.add_argument("--caption", action="append", default=[])
    flags = ["--output=~/a", "--workdir", "~", "b~", "--caption=~ a car", "--caption=c"]
    found = parser.parse_args(flags)
    assert (found.output, found.workdir) == (f"{tmp_path}/a", [str(tmp_path), "b~"])
    assert found.caption == ["~ a car", "c"]


def test_captions_come_from_a_file_too(run_sample, tmp_path):
    text = "a blue car\n\n  \na green truck\n"
    (tmp_path / "captions.txt").write_text(text, encoding="utf-8-sig")  # As Notepad writes.
    out = tmp_path / "out"
    output = run_sample(
        "--caption=a red car",
        f"--captions_file={tmp_path / 'captions.txt'}",
        "--num=1",
        f"--output={out}",
    )
    assert output.splitlines()[-1] == f"3 images of step 20; grid: {out}/grid.png"
    assert [name[:5] for name in png_files(out)] == ["000_a", "001_a", "002_a", "grid."]
    assert "002_a-green-truck_000.png" in png_files(out)


def test_images_do_not_depend_on_the_others_of_their_batch(run_sample, tmp_path):
    run_sample(
        "--caption=a red car", "--num=9", "--caption=a blue car", f"--output={tmp_path / 'many'}"
    )
    run_sample("--caption=a blue car", "--num=9", f"--output={tmp_path / 'few'}")
    many, few = png_files(tmp_path / "many"), png_files(tmp_path / "few")
    assert len(many) == 19
    for number in range(9):
        ours = many[f"001_a-blue-car_{number:03d}.png"]
        assert ours == few[f"000_a-blue-car_{number:03d}.png"]


def test_a_checkpoint_can_be_chosen(finished, run_sample, tmp_path):
    output = run_sample("--caption=a red car", "--num=1", "--checkpoint=18")
    folder = finished[0] / "generated/step_0000018_seed_0"
    assert output == f"1 image of step 18; grid: {folder}/grid.png\n"
    run_sample("--caption=a red car", "--num=1", f"--output={tmp_path}")
    name = "000_a-red-car_000.png"
    assert png_files(folder)[name] != png_files(tmp_path)[name]


def test_health_is_measured_while_the_gan_trains(finished):
    rows = list(map(json.loads, (finished[0] / "health.jsonl").read_text().splitlines()))
    assert [row["step"] for row in rows] == [8, 16]
    for row in rows:
        assert np.isfinite(row["health/training_logit"]) and row["health/noise_variety"] > 0
    (events,) = finished[0].glob("events.*")
    for tag in (b"health/noise_variety", b"gradient_norm/generator"):
        assert tag in events.read_bytes()


def test_the_best_checkpoint_is_kept_apart_and_can_be_chosen(
    finished, run_sample, shared, monkeypatch, capsys
):
    workdir, done = finished
    best = json.loads((workdir / "best.json").read_text())
    # This short run is scored only at its end.
    assert (best["step"], best["score"]) == (STEPS, "encoder_frechet")
    assert f"step {STEPS}: best encoder_frechet so far, {best['value']:.4g}\n" in done.stdout
    # Another checkpoint in its place shows where images and scores come from.
    moved = shutil.copytree(workdir, shared / "best")
    shutil.rmtree(moved / "checkpoints_best")
    (moved / "checkpoints_best").mkdir()
    (moved / "checkpoints/18").rename(moved / "checkpoints_best/18")
    (moved / "best.json").write_text(json.dumps(best | {"step": 18}))
    images = "--caption=a red car", "--num=1"
    run_sample(*images, "--checkpoint=18", f"--output={shared / 'by_step'}")
    output = run_sample(*images, f"--workdir={moved}", "--checkpoint=best")
    assert output.startswith("1 image of step 18")
    assert png_files(moved / "generated/step_0000018_seed_0") == png_files(shared / "by_step")
    arguments = f"--workdir={moved}", "--checkpoint=best", "--num=8"
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()
    assert "step 18, validation:\n" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["evaluate", arguments[0], "--checkpoint=18", "--num=8"])
    evaluate.main()
    assert "step 18, validation:\n" in capsys.readouterr().out
    (moved / "best.json").unlink()
    message = r"--checkpoint=best: .* keeps no best checkpoint; train with --config\.eval\.best="
    assert_refused(lambda: run_sample(*images, *arguments[:2]), message, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"no caption: give --caption='...' .* or --captions_file=FILE"),
        (("--caption=",), r"--caption='': is empty"),
        (("--caption=a", "--num=0"), r"--num=0: must be 1 or more"),
        (("--caption=a", "--seed=-1"), r"--seed=-1: must be 0 to 4294967295"),
        (("--caption=!?",), r"caption '!\?' has no word"),
        (("--caption=a", "--checkpoint=7"), r"no checkpoint 7; there are \[18, 20\]"),
        (("--captions_file=missing.txt",), r"--captions_file=missing\.txt: cannot be read"),
        (("--caption=a", "--workdir=EMPTY"), r"EMPTY: no trained model here \(config\.json is"),
        (("--caption=a", "--workdir=EMPTY/file"), r"EMPTY/file: no trained model here"),
        (("--caption=a", "--output=EMPTY/file"), r"EMPTY/file.*choose another folder"),
    ],
)
def test_sampling_refuses_in_one_line(arguments, message, finished, run_sample, capsys, tmp_path):
    (tmp_path / "file").touch()
    arguments = [argument.replace("EMPTY", str(tmp_path)) for argument in arguments]
    before = sorted((finished[0] / "generated").rglob("*"))
    message = message.replace("EMPTY", str(tmp_path))
    assert assert_refused(lambda: run_sample(*arguments), message, capsys).count("\n") == 1
    assert sorted((finished[0] / "generated").rglob("*")) == before
    assert os.listdir(tmp_path) == ["file"]


REFUSALS = {
    "unknown key": (["--config.data.nonsense=1"], r"config\.data\.nonsense: there is no such key"),
    "misspelt key": (["--config.data.imagesize=64"], r"did you mean data\.image_size"),
    "bad value": (["--config.train.encoders=melted"], r"'melted': must be one of 'trained', 'froz"),
    "wrong type": (["--config.data.image_size=abc"], r"image_size='abc': must be a whole number"),
    "no number": (["--config.loss.gamma1=x"], r"config\.loss\.gamma1='x': must be a number"),
    "key without config": (
        ["--train.steps=5"],
        r"--train\.steps: there is no such flag; did you mean --config\.train\.steps\?",
    ),
    "image size": (["--config.data.image_size=48"], r"image_size=48: must be 32, 64, 128"),
    "batch size": (
        ["--config.train.batch_size=6"],
        r"batch_size=6: must be divisible by the 4 devices of this run; use 4 or 8",
    ),
    "no birds": (["--config=configs/lstm.py:birds"], r"data\.dir.*CUB_200_2011"),
    "unknown variant": (
        ["--config=configs/lstm.py:nonsense"],
        r"config\.data\.name='nonsense': no data of that name. There are toy_cars, birds; .*"
        r"python -m ssagan_jax.prepare --source=DIR --name=nonsense",
    ),
    "no config file": (["--config=configs/missing.py"], r"--config: .*configs/missing\.py"),
    "no config": (["--config="], r"--config.*empty"),
    "unknown flag": (["--nonsense=1"], r"Unknown command line flag 'nonsense'"),
    "no flag": (["nonsense"], r"nonsense: not understood; write --name=value"),
    "no such encoders": (
        ["--config.damsm.checkpoint=/missing"],
        r"config\.damsm\.checkpoint='/missing': no work folder or model folder there; give one, or",
    ),
    "no such run": (
        ["--config.train.checkpoint=/missing"],
        r"config\.train\.checkpoint='/missing': no work folder or model folder there; give one, or",
    ),
    "best score": (
        ["--config.eval.best=kid"],
        r"config\.eval\.best='kid': needs Inception v3 weights; fetch",
    ),
    "another config": (["--workdir=RUN"], r"RUN: this work folder belongs to another config:"),
    "folder below a file": (["--workdir=FILE/below"], r"FILE is a file; choose a folder"),
    "data below a file": (["--config.data.prepared_dir=FILE"], r"FILE.*choose another folder"),
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config: is missing; give bert, lstm, quickst"),
        (["--config.train.steps=3"], "--config: is missing; give bert, lstm, quickst"),
        (["--config=nope.py"], "nope.py"),
        (["--config=nope.py", "--config.train.steps=3"], "nope.py"),
    ],
)
def test_training_without_a_config_names_those_of_the_project(
    monkeypatch, capsys, arguments, message
):
    monkeypatch.setattr(sys, "argv", ["main", *arguments])
    with flagsaver.flagsaver():
        assert_refused(main.run_command, message, capsys)


@pytest.mark.parametrize("name", REFUSALS)
def test_training_refuses_invalid_input_and_leaves_no_folder(
    name, finished, shared, monkeypatch, capsys, tmp_path
):
    arguments, message = REFUSALS[name]
    (tmp_path / "file").touch()
    for placeholder, path in {"RUN": finished[0], "FILE": tmp_path / "file"}.items():
        arguments = [argument.replace(placeholder, str(path)) for argument in arguments]
        message = message.replace(placeholder, str(path))
    # A config is named once, and before its keys.
    if not any(argument.startswith("--config=") for argument in arguments):
        arguments = ["--config=configs/lstm.py", "--config.data.image_size=32", *arguments]
    arguments.insert(1, f"--config.data.prepared_dir={shared / 'prepared'}")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main", f"--workdir={tmp_path / 'new'}", *arguments])
    with flagsaver.flagsaver():
        errors = assert_refused(main.run_command, message, capsys)
    assert os.listdir(tmp_path) == ["file"]
    if name == "another config":  # One line for each key, and the folder stays as it was.
        assert "  train.batch_size: 8 -> 16\n" in errors
        assert "log." not in errors and "prepared_dir" not in errors
        config = flatten(Workdir(finished[0]).config())
        assert {key: config[key] for key in TINY} == TINY
    else:
        assert errors.count("\n") == 1


def test_the_default_work_folder_is_named_after_config_and_variant():
    assert main.default_workdir("configs/bert.py") == "runs/bert"
    assert main.default_workdir("configs/bert.py:birds") == "runs/bert-birds"
    assert main.default_workdir("/elsewhere/my.py:toy_cars") == "runs/my-toy_cars"
