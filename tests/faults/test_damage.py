"""Checkpoints with bad bytes, of another model, and for other devices."""

import re
import shutil
import signal

import numpy as np
import pytest
from runs import CHECKPOINTS, STEPS, assert_same_end, read_state, state_of, steps_in, wait_for


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file):
    file.write_bytes(b"")


def removed(file):
    file.unlink()


WAYS = (flipped, halved, emptied, removed)
# The kinds of files, and what comes of it.
FILES = {
    "state/ocdbt.process_*/d/*": ("array data", "named"),
    "state/d/*": ("index of the arrays", "named"),
    "state/manifest.ocdbt": ("root of the index", "named"),
    "state/_METADATA": ("names of the arrays", "named"),
    "meta/metadata": ("manifest with data position", "named"),
    "_CHECKPOINT_METADATA": ("orbax's own description", "harmless"),
    "state/ocdbt.process_*/manifest.ocdbt": ("index before it was merged", "harmless"),
}


@pytest.fixture
def cut(runs, whole):
    """Makes a copy of the run as it stood when it had saved a step."""

    def make(name, step):
        workdir = shutil.copytree(whole, runs.place / name)
        for later in (later for later in CHECKPOINTS if later > step):
            shutil.rmtree(workdir / f"checkpoints/{later}")
        (workdir / "eval/metrics.jsonl").unlink()
        return workdir

    return make


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_reported_or_harmless(kind, cut, whole, happened, capsys):
    name, expected = FILES[kind]
    files = (whole / "checkpoints/10").glob(kind)
    file = max(files, key=lambda file: file.stat().st_size).relative_to(whole)
    for way in WAYS:
        workdir = cut(f"{way.__name__}-{name}", 10)
        way(workdir / file)
        ours, _ = read_state(workdir)
        is_named = "checkpoint 10 is damaged" in capsys.readouterr().err
        assert is_named == (expected == "named"), way
        theirs, _ = state_of(whole, 8 if is_named else 10)
        assert all(ours[path].tobytes() == leaf.tobytes() for path, leaf in theirs.items())
        shutil.rmtree(workdir)
    happened(name, f"{expected}, be it {', '.join(way.__name__ for way in WAYS)}")


def test_a_run_resumes_from_the_latest_intact_checkpoint_to_the_same_bits(
    cut, runs, whole, happened
):
    workdir = cut("spoiled", STEPS)
    files = (workdir / "checkpoints/12/state/ocdbt.process_0/d").iterdir()
    flipped(max(files, key=lambda file: file.stat().st_size))
    halved(workdir / "checkpoints/10/meta/metadata")
    said = runs.finish_well(workdir)
    assert re.search(r"checkpoint 12 is damaged \(.+\); using checkpoint 8", said)
    assert re.search(
        r"checkpoint 10 is damaged \(meta cannot be read.+\); using checkpoint 8", said
    )
    assert "now at step 8" in said
    assert {path.name for path in (workdir / "damaged").iterdir()} == {"10", "12"}
    assert_same_end(workdir, whole)
    happened("the last two are damaged", "both named and set aside, the same bits from 8 on")


def test_without_an_intact_checkpoint_the_run_does_not_start_over(cut, runs, happened):
    workdir = cut("hopeless", 4)
    for step in steps_in(workdir):
        emptied(workdir / f"checkpoints/{step}/state/manifest.ocdbt")
    code, said = runs.finish(workdir)
    assert (code, "Traceback" in said) == (2, False), said
    assert re.search(r"error: .*checkpoints: damaged: 4 \(state .*; 2 \(state .*train again", said)
    assert steps_in(workdir) == [2, 4] and not (workdir / "damaged").exists()
    happened("all are damaged", "exit code 2, each is named, nothing is moved or begun")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator.channels": 8}, r"12: \d+ tensors differ.*\n.*: saved .*, the model has "),
        (
            {"tokenizer.kind": "wordpiece"},
            "12: was saved with the tokenizer [0-9a-f]{12}, but .* [0-9a-f]{12};",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(options, message, runs, whole, happened):
    (name,) = options
    workdir = runs.place / name
    shutil.copytree(whole / "checkpoints", workdir / "checkpoints")
    code, said = runs.finish(workdir, **options)
    assert (code, "Traceback" in said) == (2, False), said
    assert re.search("error: .*" + message, said)
    assert steps_in(workdir) == CHECKPOINTS and not (workdir / "damaged").exists()
    happened(f"a checkpoint with another {name}", "exit code 2, with both sides")


def test_resuming_on_another_number_of_devices_ends_nearly_the_same(cut, runs, whole, happened):
    workdir = cut("devices", 4)
    process = runs.start(workdir, devices=2)
    assert wait_for(process, lambda: 8 in steps_in(workdir))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=400) == 143
    assert "on 2 cpu device(s); now at step 4" in runs.said(workdir)
    assert "on 1 cpu device(s)" in runs.finish_well(workdir)
    (ours, place), (theirs, their_place) = read_state(workdir, STEPS), state_of(whole, STEPS)
    assert place == their_place
    for exact in (".step", ".key"):
        np.testing.assert_array_equal(ours[exact], theirs[exact])
    # The key and the counters are far larger than any weight.
    floats = {name: leaf for name, leaf in theirs.items() if leaf.dtype == np.float32}
    apart = sum(np.sum((ours[name] - leaf.astype(float)) ** 2) for name, leaf in floats.items())
    size = sum(np.sum(leaf.astype(float) ** 2) for leaf in floats.values())
    distance = float(np.sqrt(apart / size))
    assert 0 < distance < 1e-4
    happened("1 device, then 2, then 1", f"{distance:.1e} apart in norm")
