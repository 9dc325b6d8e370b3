"""Two processes with two devices each, joined over the network, train as one with four does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

ROOT = Path(__file__).parents[1]
# At power 6 the penalty of so small a network is too flat to be seen.
VALUES = tiny.SIZES | {
    "generator.ssacn_blocks": 2,
    "loss.magp_power": 2.0,
    "train.ema_decay": 0.99,
    "train.batch_size": 8,
    "damsm.steps": 4,
    "train.steps": 4,
    "log.sample_grid_rows": 4,
}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(devices, *arguments):
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", f"device_count={devices}"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, ROOT / "tests" / "distributed_program.py", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Results of one process, and of each of two, of which the second gets no work folder.

    The two crop the images on their devices.
    """
    folder, address = tmp_path_factory.mktemp("several"), free_port()
    one = [start(4, folder / "one", folder / "one.npz", json.dumps(VALUES))]
    values = json.dumps(VALUES | {"data.device_cache_mb": 64})
    two = [
        start(2, folder / f"of{i}", folder / f"{i}.npz", values, f"127.0.0.1:{address}", 2, i)
        for i in (0, 1)
    ]
    for process in one + two:
        output, _ = process.communicate()
        assert process.returncode == 0, output.decode()
    assert not (folder / "of1").exists()
    return [dict(np.load(folder / f"{name}.npz")) for name in ("one", "0", "1")]


def test_two_processes_train_as_one(found, measured):
    one, first, second = found
    names = [name for name in one if name.startswith(("[0]", "[1]"))]
    assert len(names) > 200
    for name in names:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        a, b = one[name].astype(float), first[name].astype(float)
        apart = np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-30)
        measured("2 + 2 steps, float64, every tensor", "2 processes and 1", apart, 1e-9)


def test_a_stop_signal_of_one_process_reaches_all(found):
    assert [int(part["[2]['stop_signal']"]) for part in found] == [3, 4, 4]


def test_all_processes_get_the_scores_of_one(found):
    one, first, second = found
    names = [name for name in one if name.startswith("score/")]
    assert len(names) == 9
    for name in names:
        assert first[name] == second[name]
        np.testing.assert_allclose(first[name], one[name], rtol=1e-5)
