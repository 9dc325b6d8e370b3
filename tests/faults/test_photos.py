"""A photo that cannot be read while a run prepares its data."""

import re
import signal

import pytest
from fault_runs import wait_for
from test_birds import write_birds

BAD = "CUB_200_2011/images/007.Wren/grey.jpg"


@pytest.fixture
def photos(tmp_path):
    """A folder of photos, of which one in the middle is truncated."""
    source = write_birds(tmp_path / "birds")
    whole = (source / BAD).read_bytes()
    (source / BAD).write_bytes(whole[: len(whole) // 2])
    return source


def started(runs, name, photos, policy):
    """Exit code, output and folder of a run on the photos, killed when it starts to train."""
    workdir = runs.place / name
    options = {"data.bad_images": policy, "data.dir": photos, "data.name": "birds"}
    process = runs.start(workdir, **options, **{"train.batch_size": 2, "log.sample_grid_rows": 1})
    wait_for(process, lambda: "training in" in runs.output(workdir))
    process.send_signal(signal.SIGKILL)
    return process.wait(), runs.output(workdir), workdir


def test_a_bad_photo_stops_the_run_by_name_or_is_skipped_and_counted(runs, photos, report):
    code, output, workdir = started(runs, "stopped", photos, "error")
    assert (code, "Traceback" in output) == (2, False), output
    assert re.search("error: 007.Wren/grey: .*config.data.bad_images='skip'", output)
    assert not workdir.exists()
    code, output, _ = started(runs, "skipped", photos, "skip")
    assert code == -signal.SIGKILL and "training in" in output, output
    assert "skipped" in output and "3 train" in output
    report("a photo cut in half", "error: exit code 2 with its name; skip: counted and skipped")
