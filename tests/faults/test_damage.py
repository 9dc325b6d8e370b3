"""Checkpoints with bad bytes, of another model, and for other devices."""

import re
import shutil
import signal

import numpy as np
import pytest
from fault_runs import (
    CHECKPOINTS,
    STEPS,
    TIMEOUT,
    assert_same_end,
    read_state,
    state_of,
    steps_in,
    wait_for,
)

WAYS = ("flipped", "halved", "emptied", "removed")


def damage(file, way):
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 4
    file.write_bytes({"flipped": content, "halved": content[:middle]}.get(way, b""))
    if way == "removed":
        file.unlink()


# The kinds of files, and whether their damage is reported.
FILES = {
    "state/ocdbt.process_*/d/*": ("array data", "named"),
    "state/d/*": ("index of the arrays", "named"),
    "state/manifest.ocdbt": ("root of the index", "named"),
    "state/_METADATA": ("names of the arrays", "named"),
    "state/file_checksums.json": ("checksums of the files", "named"),
    "meta/metadata": ("manifest with data position", "named"),
    "_CHECKPOINT_METADATA": ("orbax's own description", "harmless"),
    "state/ocdbt.process_*/manifest.ocdbt": ("index before it was merged", "named"),
}


@pytest.fixture
def rewind(runs, reference):
    """Makes a copy of the run as it was after saving a step."""

    def make(name, step):
        workdir = shutil.copytree(reference, runs.place / name)
        for later in (later for later in CHECKPOINTS if later > step):
            shutil.rmtree(workdir / f"checkpoints/{later}")
        (workdir / "eval/metrics.jsonl").unlink()
        return workdir

    return make


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_reported_or_harmless(kind, rewind, reference, report, capsys):
    name, expected = FILES[kind]
    files = (reference / "checkpoints/10").glob(kind)
    file = max(files, key=lambda file: file.stat().st_size).relative_to(reference)
    for way in WAYS:
        workdir = rewind(f"{way}-{name}", 10)
        damage(workdir / file, way)
        ours, _ = read_state(workdir)
        is_named = "checkpoint 10 is damaged" in capsys.readouterr().err
        assert is_named == (expected == "named"), way
        theirs, _ = state_of(reference, 8 if is_named else 10)
        assert all(ours[path].tobytes() == leaf.tobytes() for path, leaf in theirs.items())
        shutil.rmtree(workdir)
    report(name, f"{expected}, be it {', '.join(WAYS)}")


def test_a_run_resumes_from_the_latest_intact_checkpoint_to_the_same_bits(
    rewind, runs, reference, report
):
    workdir = rewind("corrupt", STEPS)
    files = (workdir / "checkpoints/12/state/ocdbt.process_0/d").iterdir()
    damage(max(files, key=lambda file: file.stat().st_size), "flipped")
    damage(workdir / "checkpoints/10/meta/metadata", "halved")
    output = runs.finish_successfully(workdir)
    assert re.search(r"checkpoint 12 is damaged \(.+\); using checkpoint 8", output)
    assert re.search(
        r"checkpoint 10 is damaged \(meta cannot be read.+\); using checkpoint 8", output
    )
    assert "now at step 8" in output
    assert {path.name for path in (workdir / "damaged").iterdir()} == {"10", "12"}
    assert_same_end(workdir, reference)
    report("the last two are damaged", "both reported and moved away, the same bits from 8 on")


def test_without_an_intact_checkpoint_the_run_does_not_start_over(rewind, runs, report):
    workdir = rewind("all corrupt", 4)
    for step in steps_in(workdir):
        damage(workdir / f"checkpoints/{step}/state/manifest.ocdbt", "emptied")
    output = runs.finish_with_error(workdir)
    assert re.search(r"error: .*damaged: 4 \(state .*; 2 \(state .*train again", output)
    assert steps_in(workdir) == [2, 4] and not (workdir / "damaged").exists()
    report("all are damaged", "exit code 2, each is named, nothing is moved, no run starts")


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
def test_a_checkpoint_of_another_run_is_refused(options, message, runs, reference, report):
    (name,) = options
    workdir = runs.place / name
    shutil.copytree(reference / "checkpoints", workdir / "checkpoints")
    output = runs.finish_with_error(workdir, **options)
    assert re.search("error: .*" + message, output)
    assert steps_in(workdir) == CHECKPOINTS and not (workdir / "damaged").exists()
    report(f"a checkpoint with another {name}", "exit code 2, with both sides")


def test_resuming_on_another_number_of_devices_ends_nearly_the_same(
    rewind, runs, reference, report
):
    workdir = rewind("devices", 4)
    process = runs.start(workdir, devices=2)
    assert wait_for(process, lambda: 8 in steps_in(workdir))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=TIMEOUT) == 143
    assert "on 2 cpu device(s); now at step 4" in runs.output(workdir)
    assert "on 1 cpu device(s)" in runs.finish_successfully(workdir)
    (ours, position), (theirs, other_position) = (
        read_state(workdir, STEPS),
        state_of(reference, STEPS),
    )
    assert position == other_position
    for exact in (".step", ".key"):
        np.testing.assert_array_equal(ours[exact], theirs[exact])
    # The key and the counters are far larger than any weight.
    floats = {name: leaf for name, leaf in theirs.items() if leaf.dtype == np.float32}
    apart = sum(np.sum((ours[name] - leaf.astype(float)) ** 2) for name, leaf in floats.items())
    size = sum(np.sum(leaf.astype(float) ** 2) for leaf in floats.values())
    distance = float(np.sqrt(apart / size))
    assert 0 < distance < 1e-4
    report("1 device, then 2, then 1", f"{distance:.1e} apart in norm")
