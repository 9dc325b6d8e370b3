"""The report of two tiny work folders: what it shows equals what the folders hold."""

import base64
import contextlib
import copy
import csv
import html.parser
import io
import math
import os
import re
import shutil
import sys
import time
from types import SimpleNamespace

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu import metric_writers
from PIL import Image

from ssagan_jax import report
from ssagan_jax.checkpointing.best_checkpoint import BestCheckpoint, write_best
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.checkpointing.checksums import CheckpointError
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.health_log import Measurement, write_health
from ssagan_jax.evaluation.scores import Score, write_scores
from ssagan_jax.fixed_samples import FixedSamples, GeneratedSamples
from ssagan_jax.inference.model_loading import load_model, load_state
from ssagan_jax.inference.sampler import sample_noise
from ssagan_jax.reporting import figures
from ssagan_jax.reporting.charts import CHARTS, HEALTH_CHARTS, smooth
from ssagan_jax.reporting.epoch_selection import select_image_steps, select_table_steps
from ssagan_jax.reporting.output_folder import check_output, write_output
from ssagan_jax.reporting.run_stats import count_parameters, differing_keys, training_stats
from ssagan_jax.reporting.runs import open_reported_runs
from ssagan_jax.reporting.score_table import Row, ScoreTable
from ssagan_jax.steps.state import abstract_state
from ssagan_jax.training import throughput
from ssagan_jax.training.event_files import sort_before_now
from ssagan_jax.workdir import Workdir

CAPTIONS = ["a red <car> & a road", "a blue truck"]
USER_CAPTIONS = ["a blue car", "a plaid car"]
# The encoders' stage ends at step 4, and an epoch has 5 steps: step 9 is epoch 1, 14 is epoch 2.
FIRST, PER_EPOCH, SIZE = 4, 5, 32
EPOCHS = (1.0, 1.6, 2.0)
RECIPE = {"features": "inception", "num_real": 10, "num_generated": 10, "seed": 0, "split": "v"}
LSTM, BERT = "SSA-GAN with bidirectional LSTM", "SSA-GAN with BERT"


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


REALS = [picture(0), picture(1)]
NOISE = np.random.default_rng(7).normal(size=(2, 8)).astype(np.float32)


def random_state(config, tokenizer, step):
    """A state of the right shapes, which no network has to be compiled for."""
    rng = np.random.default_rng(step)

    def leaf(path, shape):
        if not jnp.issubdtype(shape.dtype, jnp.floating):
            return np.zeros(shape.shape, shape.dtype)
        values = rng.normal(0, 0.3, shape.shape).astype(shape.dtype)
        return np.exp(values) if "var" in jax.tree_util.keystr(path) else values

    state = jax.tree_util.tree_map_with_path(leaf, abstract_state(config, tokenizer))
    return state.replace(step=np.asarray(step, np.int32))


def write_run(folder, config, seconds):
    """A work folder with checkpoints 2, 9 and 14, sample grids 12 and 14, and events."""
    workdir = Workdir(folder)
    workdir.write_config(config)
    tokenizer = learn_tokenizer(config.tokenizer.kind, [*CAPTIONS, "the a car"], 100)
    workdir.write_tokenizer(tokenizer)
    checkpoints = Checkpoints(workdir.checkpoints, 5, tokenizer.digest)
    position = iter(grain.MapDataset.range(9).to_iter_dataset())
    for step in (2, 9, 14):
        checkpoints.save(random_state(config, tokenizer, step), position)
    checkpoints.close()
    workdir.write_schedule(Schedule(PER_EPOCH, FIRST, 14))
    workdir.write_fixed_samples(FixedSamples(CAPTIONS, NOISE, np.stack(REALS)))
    for step in (12, 14):
        images = np.stack([picture(step), picture(step + 1)])
        workdir.write_generated_samples(step, GeneratedSamples(images, images[..., 0]))
        workdir.sample_grid(step).touch()
    write_events(folder, seconds)
    return workdir, position, tokenizer


def write_events(folder, seconds):
    writer = metric_writers.SummaryWriter(str(folder))
    writer.write_scalars(4, {"time/epoch": 0.8, "time/seconds_per_epoch": 99.0, "damsm/words": 3.0})
    writer.write_texts(0, {"devices": "3 x abacus"})
    writer.write_images(14, {"sample_grid": np.zeros((1, 8, 8, 3), np.uint8)})
    for step, each in zip((9, 14), seconds, strict=True):
        scalars = {chart.scalar: float(step) for chart in CHARTS} | {
            "time/seconds_per_epoch": each,
            "time/epoch": (step - FIRST) / PER_EPOCH,
            "memory/process_peak_mib": 1000.0 + step,
        }
        writer.write_scalars(step, scalars)
    writer.close()


def add_health(workdir, position, tokenizer):
    """Measurements of health that warn at step 14, and the best checkpoint, 7, kept apart."""
    writer = metric_writers.SummaryWriter(str(workdir.path))
    for step, variety in ((5, 0.5), (6, 0.5), (9, 0.1), (14, 0.05)):
        names = ("training_logit", "held_out_logit", "generated_logit", "sign", "separation")
        values = {f"health/{name}": 0.5 for name in (*names, "caption_variety")}
        values |= {"health/noise_variety": variety, "health/overfitting": math.nan}
        write_health(workdir, Measurement(step, values))
        writer.write_scalars(step, values)
    writer.close()
    best = BestCheckpoint(7, "kid", 0.25)
    write_best(
        workdir, best, random_state(workdir.config(), tokenizer, 7), position, tokenizer.digest
    )


def score(step, name, value, std, recipe, split="validation"):
    return Score(step, 0.0, "gan" if step > FIRST else "encoders", split, name, value, std, recipe)


def add_scores(folder, *rows, **options):
    """Writes rows (step, name, value, std, recipe)."""
    write_scores(Workdir(folder), [score(*row, **options) for row in rows])


@pytest.fixture(scope="module")
def folders(tiny_config, tmp_path_factory):
    """An LSTM and a BERT run, whose windows of 5 steps were 10 and 14, and 8 and 9 seconds long."""
    root = tmp_path_factory.mktemp("report")
    bert = copy.deepcopy(tiny_config)
    bert.text_encoder.update(name="bert", hidden_size=16, num_layers=1, num_heads=2)
    bert.text_encoder.intermediate_size = 16
    bert.tokenizer.kind = "wordpiece"
    write_run(root / "lstm", tiny_config, (10.0, 14.0))
    write_run(root / "bert", bert, (8.0, 9.0))
    own = RECIPE | {"features": "cnn/code of the run"}
    add_scores(
        root / "lstm",
        (9, "fid", 1.0, None, RECIPE),  # Evaluated again below.
        (9, "fid", 310.0, None, RECIPE | {"checkpoint": 9}),
        (9, "inception_score", 2.56, 0.125, RECIPE | {"checkpoint": 9}),
        (14, "fid", 312.6, None, RECIPE | {"checkpoint": 14}),
        (14, "r_precision", 0.25, None, own | {"weights_sha256": "aa"}),
        (14, "kid", 0.5, 0.01, RECIPE | {"subsets": 10}),
    )
    add_scores(
        root / "bert",
        (9, "fid", 295.96, None, RECIPE | {"checkpoint": 9, "seed": 1}),
        (9, "inception_score", 2.38, None, RECIPE),
        (9, "kid", 0.25, 0.01, RECIPE | {"subsets": 100}),
        (9, "r_precision", 0.5, None, own | {"weights_sha256": "bb"}),
        (9, "encoder_frechet", 7.0, None, own | {"weights_sha256": "bb"}),
        (9, "mystery", 0.125, None, {}),
    )
    add_scores(root / "bert", (9, "fid", 1.0, None, {}), split="train")
    add_scores(root / "bert", (2, "fid", 1.0, None, {}))
    return root


@pytest.fixture(scope="module")
def kept(tiny_config, tmp_path_factory):
    """A run with measurements of its health and with a best checkpoint."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    add_health(*write_run(folder, tiny_config, (10.0, 14.0)))
    return folder


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    report.main()


@pytest.fixture(scope="module")
def written(folders):
    """The report of both runs with user captions."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        run_command(
            patch,
            f"--workdir={folders / 'lstm'}",
            f"--workdir={folders / 'bert'}",
            f"--output={folders / 'out'}",
            "--epochs=1,1.6,2",
            *(f"--caption={caption}" for caption in USER_CAPTIONS),
            "--num=2",
            "--seed=5",
        )
    assert printed.getvalue().endswith(f"\nreport of 2 run(s): {folders}/out/index.html\n")
    return folders / "out"


class Page(html.parser.HTMLParser):
    """Images, bold texts and all attributes of a page whose elements close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.attributes, self.bold = [], [], [], []
        self.tags, self.text = set(), ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] == "b":
            self.bold.append(data)


@pytest.fixture(scope="module")
def page(written):
    return Page((written / "index.html").read_text(encoding="utf-8"))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_page_is_self_contained(page, written):
    assert not {"script", "link", "iframe", "a"} & page.tags
    assert not [pair for pair in page.attributes if pair[0] in ("href", "srcset", "onload")]
    assert not re.search(r"https?:|url\(|@import", (written / "index.html").read_text())
    assert ("name", "viewport") in page.attributes
    # 4 charts; 2 captions with a real and 2 generated images at 3 epochs; 2 user captions with 2
    # images of each run; and 2 captions of each run with an image and 4 masks.
    assert len(page.images) == 4 + 2 * 3 * 3 + 2 * 2 * 2 + 2 * 2 * 5
    for attributes in page.images:
        head, _, data = attributes["src"].partition(",")
        assert head == "data:image/png;base64" and attributes["alt"]
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            size = (int(attributes["width"]), int(attributes["height"]))
            assert image.format == "PNG" and image.size == size
    assert CAPTIONS[0] in page.text
    assert f"Unknown words of {LSTM} in 'a plaid car': plaid" in page.text


def test_the_files_beside_the_page(written):
    assert not list(written.parent.glob("out.*"))
    names = {path.name for path in written.iterdir()}
    assert names == {"index.html", "table1.md", "table1.csv"} | {
        f"{chart.name}.png" for chart in CHARTS
    } | {
        f"{kind}_{run}.png"
        for kind in (*(f"fig5_epoch_{epoch}" for epoch in EPOCHS), "fig9_captions", "masks")
        for run in ("1-lstm", "2-bert")
    }


def test_the_best_of_comparable_scores_is_bold(page):
    # KID's recipes differ; no direction is known of the others.
    assert page.bold == ["2.56 ± 0.12", "295.96", "0.500"]


def test_the_table_in_markdown(written):
    lines = (written / "table1.md").read_text(encoding="utf-8").splitlines()
    heads = ["Method", "Epoch", "IS", "FID", "KID", "R-precision", "Frechet distance (own encoder)"]
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [*heads, "mystery"]
    assert set(lines[1]) == set("|- ")
    assert lines[2:8] == [
        f"| {LSTM} | 1.0 | **2.56 ± 0.12** [1] | 310.00 [1] | — | — | — | — |",
        f"| {LSTM} | 1.6 | — | — | — | — | — | — |",
        f"| {LSTM} | 2.0 | — | 312.60 [1] | 0.5000 ± 0.0100 [2] | 0.250 [4] | — | — |",
        f"| {BERT} | 1.0 | 2.38 [1] | **295.96** [1] | 0.2500 ± 0.0100 [3] | **0.500** [4] "
        "| 7.00 [4] | 0.1250 [5] |",
        f"| {BERT} | 1.6 | — | — | — | — | — | — |",
        f"| {BERT} | 2.0 | — | — | — | — | — | — |",
    ]
    text = "\n".join(lines)
    assert "No best value is marked for KID" in text and "FID from only 10 images" in text
    assert (
        "[1] IS, FID: features: inception; num_real: 10; num_generated: 10; seed: 0 or 1; "
        "split: v; checkpoint: 9 or 14"
    ) in lines
    assert "weights_sha256: aa or bb" in text and "[5] mystery: no recipe" in lines


def test_the_table_as_csv_has_every_digit(written):
    rows = list(csv.DictReader((written / "table1.csv").open(encoding="utf-8")))
    fields = ("method", "epoch", "step", "fid", "inception_score", "inception_score_std", "kid")
    assert [[row[field] for field in fields] for row in rows] == [
        [LSTM, "1.0", "9", "310.0", "2.56", "0.125", ""],
        [LSTM, "1.6", "12", "", "", "", ""],
        [LSTM, "2.0", "14", "312.6", "", "", "0.5"],
        [BERT, "1.0", "9", "295.96", "2.38", "", "0.25"],
        [BERT, "1.6", "12", "", "", "", ""],
        [BERT, "2.0", "14", "", "", "", ""],
    ]


def test_a_score_that_is_no_number_is_never_best():
    values = (math.nan, 3.0, math.inf, 2.0, 2.0)
    rows = [Row("a", 1.0, 1, {"fid": score(9, "fid", value, None, {})}) for value in values]
    rows.append(Row("a", 1.0, 1, {}))
    table = ScoreTable(rows)
    assert [table.best(row, "fid") for row in rows] == [False, False, False, True, True, False]


def test_two_runs_of_one_method_are_named_after_their_folders(folders, tmp_path):
    for place in ("x/run", "y/run", "y/other"):
        shutil.copytree(folders / "lstm", tmp_path / place)
    paths = [str(tmp_path / place) for place in ("x/run", "y/other", "y/run")]
    runs = open_reported_runs([*paths, str(folders / "bert")], "train")
    assert [run.method for run in runs] == [
        f"{LSTM} (run) ({tmp_path}/x/run)",
        f"{LSTM} (other)",
        f"{LSTM} (run) ({tmp_path}/y/run)",
        BERT,
    ]
    assert [run.file_name for run in runs] == ["1-run", "2-other", "3-run", "4-bert"]
    assert [run.scores for run in runs[:3]] == [{}] * 3 and runs[3].scores[9]["fid"].value == 1


def columns(path, count):
    """Columns of images u8[2, S, S, 3] of a drawn grid with two captions and column titles."""
    scale = 128 // SIZE
    tops, lefts = [28, 28 + 136], [220 + column * 136 for column in range(count)]
    grid = pixels(path)
    return [np.stack([grid[y : y + 128 : scale, x : x + 128 : scale] for y in tops]) for x in lefts]


def test_real_and_generated_images_are_those_of_the_run(written, folders):
    reals, generated = columns(written / "fig5_epoch_1.0_1-lstm.png", 2)
    np.testing.assert_array_equal(reals, REALS)
    trained = load_model(str(folders / "lstm"), 9)
    np.testing.assert_array_equal(generated, trained.generate(CAPTIONS, NOISE))
    (_, later) = columns(written / "fig5_epoch_2.0_1-lstm.png", 2)
    assert np.abs(later.astype(int) - generated).max() > 20


def test_user_captions_and_masks_are_generated_with_the_seed(written, folders):
    trained = load_model(str(folders / "lstm"), 14)
    noise = sample_noise(5, 2, trained.config.generator.noise_dim)
    (_, second) = columns(written / "fig9_captions_1-lstm.png", 2)
    (_, _, mask) = columns(written / "masks_1-lstm.png", 3)
    for index, caption in enumerate(USER_CAPTIONS):
        images, masks = trained.generate_with_masks([caption] * 2, noise)
        np.testing.assert_array_equal(second[index], images[1])
        wanted = np.round(masks[1][0] * 255).repeat(3, -1)
        np.testing.assert_array_equal(mask[index], wanted)


def test_images_without_a_checkpoint_are_those_of_the_sample_grid(written, page):
    reals, generated = columns(written / "fig5_epoch_1.6_1-lstm.png", 2)
    np.testing.assert_array_equal(reals, REALS)
    np.testing.assert_array_equal(generated, [picture(12), picture(13)])
    assert "read from the sample grid of step 12" in page.text


def test_without_epochs_the_scored_ones_are_selected(folders):
    runs = open_reported_runs([str(folders / "lstm"), str(folders / "bert")], "validation")
    table_steps = select_table_steps(runs, [])
    assert table_steps == [[9, 14], [9]]
    assert select_image_steps(runs, table_steps, epochs_given=False) == [[9, 14], [9, 14]]


def test_time_memory_and_sizes_are_what_was_measured(folders, page):
    runs = open_reported_runs([str(folders / "lstm"), str(folders / "bert")], "validation")
    assert [run.schedule for run in runs] == [Schedule(PER_EPOCH, FIRST, 14)] * 2
    stats = dict(training_stats(runs))
    assert stats["seconds per epoch"] == ["12.0", "8.5"]
    assert stats["images per second"] == [f"{5 * 8 / 12:.1f}", f"{5 * 8 / 8.5:.1f}"]
    assert stats["peak memory"] == ["1,014 MiB of the process"] * 2
    assert stats["devices"] == ["3 x abacus"] * 2
    assert stats["GAN epochs trained"] == ["2.0"] * 2
    state = load_state(Workdir(folders / "bert"))
    assert count_parameters(runs[1])["generator"] == sum(
        x.size for x in jax.tree.leaves(state.generator)
    )
    heads, lines = differing_keys(runs)
    assert heads == [LSTM, BERT]
    assert dict(lines)["text_encoder.name"] == ["'lstm'", "'bert'"]
    assert not any(key.startswith(("train.", "data.", "generator.")) for key, _ in lines)
    assert differing_keys(runs[:1])[0] == ["default", LSTM]
    assert "12.0" in page.text and "tokenizer.kind" in page.text


def test_a_step_that_was_repeated_counts_once(folders, tmp_path):
    shutil.copytree(folders / "lstm", tmp_path / "run")
    (first,) = (tmp_path / "run").glob("events.out.tfevents.*")
    first.rename(first.with_name(re.sub(r"\.\d{10}\.", ".1000000000.", first.name)))
    write_events(tmp_path / "run", (20.0, 30.0))
    (run,) = open_reported_runs([str(tmp_path / "run")], "validation")
    assert dict(training_stats([run]))["seconds per epoch"] == ["25.0"]


def test_a_repeated_step_counts_once_after_the_clock_was_set_back(folders, tmp_path):
    run = shutil.copytree(folders / "lstm", tmp_path / "run")
    (first,) = run.glob("events.out.tfevents.*")
    first.rename(first.with_name(re.sub(r"\.\d{10}\.", ".3000000000.", first.name)))
    sort_before_now(run)
    write_events(run, (20.0, 30.0))
    (reported,) = open_reported_runs([str(run)], "validation")
    assert dict(training_stats([reported]))["seconds per epoch"] == ["25.0"]


def test_a_checkpoint_that_is_replaced_while_it_is_read(folders, tmp_path, monkeypatch):
    run, read = shutil.copytree(folders / "lstm", tmp_path / "run"), Checkpoints._read
    for step in (2, 9):
        shutil.rmtree(run / f"checkpoints/{step}")

    def replace_and_read(self, step, template):
        if step == 14:
            (run / "checkpoints/14").rename(run / "checkpoints/16")
        return read(self, step, template)

    monkeypatch.setattr(Checkpoints, "_read", replace_and_read)
    assert load_state(Workdir(run)).step == 14  # Of the copy, which is named 16.
    with pytest.raises(CheckpointError, match=r"no checkpoint 14; there are \[16\]"):
        load_state(Workdir(run), 14)


def test_a_report_beside_a_training_shows_what_is_there(folders, tmp_path, monkeypatch):
    run, load = shutil.copytree(folders / "lstm", tmp_path / "run"), figures.load_model

    def delete_and_load(source, step):
        if step == 14:
            shutil.rmtree(run / "checkpoints/14")
        return load(source, step)

    monkeypatch.setattr(figures, "load_model", delete_and_load)
    flags = (f"--workdir={run}", f"--output={tmp_path / 'out'}", "--epochs=1,2")
    run_command(monkeypatch, *flags)
    page = (tmp_path / "out/index.html").read_text()
    assert "generated from checkpoint 9" in page and "generated from checkpoint 14" not in page
    assert "read from the sample grid of step 14, whose checkpoint was deleted" in page


def test_event_files_keep_their_order(tmp_path):
    now = int(time.time())
    times = {"b": now + 100, "a": now + 200, "c": now - 100}
    for name, seconds in times.items():
        (tmp_path / f"events.out.tfevents.{seconds}.{name}.7.v2").write_text(name)
    (tmp_path / "events.out.tfevents.x").write_text("x")
    sort_before_now(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert "".join(file.read_text() for file in files) == "cbax"
    assert all(file.name.split(".")[3] < f"{now}" for file in files[:3])
    assert [file.name.split(".", 4)[4] for file in files[:3]] == ["c.7.v2", "b.7.v2", "a.7.v2"]


def test_only_an_earlier_report_is_replaced(written, tmp_path):
    output = tmp_path / "deep/r"
    check_output(output)
    page = (written / "index.html").read_bytes()
    mine = ["r.part/notes.txt", "r.old/notes.txt"]
    for name in mine:
        (tmp_path / "deep" / name).parent.mkdir(parents=True)
        (tmp_path / "deep" / name).write_text("mine")
    for files in ({"index.html": page, "table1.md": b"old"}, {"index.html": page}):
        (tmp_path / "deep/.r.ssagan_jax.part").mkdir()
        (tmp_path / "deep/.r.ssagan_jax.part/torn.png").touch()
        write_output(output, files)
        check_output(output)
        assert {path.name: path.read_bytes() for path in output.iterdir()} == files
        assert {path.name for path in (tmp_path / "deep").iterdir()} == {"r", "r.part", "r.old"}
    assert all((tmp_path / "deep" / name).exists() for name in mine)
    (output / "notes.md").write_text("mine")
    with pytest.raises(InputError, match="not a report's, such as notes.md"):
        check_output(output)
    (output / "index.html").write_text("<html>a page of another</html>")
    (output / "notes.md").unlink()
    with pytest.raises(InputError, match="not a report's, such as index.html"):
        check_output(output)


def test_an_error_in_a_section_leaves_no_files(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "draw_chart", None)  # Called after the score table.
    with pytest.raises(TypeError, match="not callable"):
        run_command(monkeypatch, f"--workdir={folders / 'bert'}", f"--output={tmp_path}/r")
    assert list(tmp_path.iterdir()) == []


def without(*patterns):
    def change(run):
        for pattern in patterns:
            for path in run.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def damage(run):
    (run / "eval/metrics.jsonl").write_text('{"split": "validation"\n')


def untimed(run):
    without("events*")(run)
    metric_writers.SummaryWriter(str(run)).write_scalars(9, {"generator/adversarial": 1.0})


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, ["--workdir=RUN/none"], r"RUN/none: no trained model here \(config\.json"),
        (None, ["--workdir=RUN", "--workdir=RUN/."], r"RUN: given 2 times; give it once"),
        (without("checkpoints"), ["--workdir=RUN"], r"RUN/checkpoints: no checkpoint here"),
        (without("events*"), ["--workdir=RUN"], r"RUN: no TensorBoard events here"),
        (untimed, ["--workdir=RUN"], r"RUN: its TensorBoard events have no time/seconds_per_epoch"),
        (without("schedule.json"), ["--workdir=RUN"], r"RUN/schedule\.json: cannot be read"),
        (without("samples/fixed.npz"), ["--workdir=RUN"], r"RUN/samples/fixed\.npz: cannot be"),
        (damage, ["--workdir=RUN"], r"metrics\.jsonl:1: not a score"),
        (None, ["--workdir=RUN", "--epochs=1,7"], r"--epochs=7: .*RUN: 1\.0, 1\.6, 2\.0"),
        (None, ["--workdir=RUN", "--epochs=one"], r"--epochs=one: write numbers with commas"),
        (None, ["--workdir=RUN", "--num=0"], r"--num=0: must be 1 or more"),
        (None, ["--workdir=RUN", "--caption="], r"--caption='': is empty"),
        (None, ["--workdir=RUN", "--caption=caf\udce9"], r"not Unicode text; write it in UTF-8"),
        (None, ["--workdir=RUN", "--output=RUN"], r"--output=RUN: holds files that are not a"),
        (None, ["--workdir=RUN", "--output=RUN/config.json"], r"config\.json: is a file"),
        (
            without("checkpoints/9", "checkpoints/14", "samples", "eval"),
            ["--workdir=RUN"],
            r"RUN: no checkpoint, sample grid or score of stage 2 yet",
        ),
    ],
)
def test_errors(change, arguments, message, folders, monkeypatch, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(folders / "lstm", run)
    if change:
        change(run)
    arguments = [f"--output={tmp_path}/r", *arguments]
    with pytest.raises(SystemExit) as caught:
        run_command(monkeypatch, *(each.replace("RUN", str(run)) for each in arguments))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ")
    assert re.search(message.replace("RUN", re.escape(str(run))), error)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_link_to_a_folder_stays_one(folders, monkeypatch, tmp_path):
    (tmp_path / "public").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "public")
    for _ in range(2):
        run_command(monkeypatch, f"--workdir={folders / 'lstm'}", f"--output={tmp_path / 'link'}")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "public/index.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"link", "public"}


def test_a_mount_point_is_refused_before_any_work(folders, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(SystemExit):
        run_command(monkeypatch, f"--workdir={folders / 'lstm'}", f"--output={tmp_path}")
    assert "is a mount point; choose a new folder in it" in capsys.readouterr().err


def test_only_splits_that_have_scores_are_accepted(monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        run_command(monkeypatch, "--workdir=none", "--split=test")
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert re.search("argument --split: invalid choice: 'test' .*validation.*train", error)


def test_smoothing_keeps_constants_and_skips_values_that_are_not_finite():
    np.testing.assert_allclose(smooth(np.full(30, 2.5)), 2.5)
    # Up to 100 points a fifth of the weight is the newest one's: 0.8 falls behind at each.
    np.testing.assert_allclose(smooth(np.array([1.0, np.nan, 4.0])), [1, 1, (0.8 + 4) / 1.8])
    assert np.isnan(smooth(np.array([np.inf, 1.0]))).tolist() == [True, False]


def test_throughput_excludes_compilation_and_pauses(monkeypatch):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(throughput, "time", clock)
    measured = throughput.ThroughputMeter(first=4, batch_size=8, steps_per_epoch=5)
    clock.now += 60  # The first step compiles.
    measured.start(5)
    assert "time/seconds_per_epoch" not in measured.scalars(5)
    clock.now += 3
    with measured.paused():
        clock.now += 1000
    clock.now += 1
    found = measured.scalars(7)
    assert found["time/epoch"] == 3 / 5
    assert found["time/seconds_per_epoch"] == 5 * 4 / 2
    assert found["time/pictures_per_second"] == 8 * 2 / 4
    clock.now += 6
    assert measured.scalars(10)["time/seconds_per_epoch"] == 5 * 6 / 3


def test_peak_memory_is_that_of_the_fullest_device_or_else_of_the_process(monkeypatch):
    held = np.ones(2**26, np.uint8)
    (name, peak), *others = throughput.peak_memory().items()
    assert name == "memory/process_peak_mib" and not others
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert held.nbytes / 2**20 < peak < memory / 2**20

    def device(peak):
        stats = {"peak_bytes_in_use": peak, "bytes_in_use": 1}
        return SimpleNamespace(memory_stats=lambda: stats)

    monkeypatch.setattr(jax, "local_devices", lambda: [device(3 * 2**20), device(5 * 2**20)])
    assert throughput.peak_memory() == {"memory/device_peak_mib": 5.0}


def test_the_health_of_a_run_has_its_own_section_with_warnings(kept, monkeypatch, page, tmp_path):
    assert "Overfitting and collapse" not in page.text
    out = tmp_path / "out"
    run_command(monkeypatch, f"--workdir={kept}", f"--output={out}", "--checkpoint=best")
    found = Page((out / "index.html").read_text(encoding="utf-8"))
    warning = "step 14: variety between images of one caption fell from 0.5 to 0.05"
    assert f"{LSTM}, {warning}" in found.text
    assert "best checkpoint: step 7, epoch 0.6, kid 0.25" in found.text
    names = {path.name for path in out.iterdir()}
    # There are no gradient norms.
    assert {f"{chart.name}.png" for chart in HEALTH_CHARTS[:3]} < names
    assert f"{HEALTH_CHARTS[3].name}.png" not in names
    # The images are those of the best checkpoint.
    assert "fig5_epoch_0.6_1-run.png" in names and len([n for n in names if "fig5" in n]) == 1
    model, run = load_model(kept, "best"), Workdir(kept).fixed_samples()
    images = model.generate(run.captions, run.noise)
    grid = pixels(out / "fig5_epoch_0.6_1-run.png")
    enlarged = np.repeat(np.repeat(images[0], 4, 0), 4, 1)
    assert any(np.array_equal(grid[28 : 28 + 128, x : x + 128], enlarged) for x in range(220, 380))


def test_a_checkpoint_that_a_run_does_not_have_is_refused(kept, folders):
    (run,) = open_reported_runs([str(kept)], "validation")
    assert run.checkpoints == [7, 9, 14]
    assert [run.step_of(checkpoint) for checkpoint in ("best", 7, 14)] == [7, 7, 14]
    with pytest.raises(InputError, match=r"--checkpoint=8: .* has the checkpoints \[7, 9, 14\]"):
        run.step_of(8)
    (other,) = open_reported_runs([str(folders / "lstm")], "validation")
    with pytest.raises(InputError, match="keeps no best checkpoint"):
        other.step_of("best")
