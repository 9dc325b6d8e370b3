"""Commands open no connection, unless they download by name. test_cli.py trains and samples so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from PIL import Image

ROOT = Path(__file__).parents[1]
# Runs commands, each a list of its name and arguments, in one process.
RUNS = """
import importlib, json, sys
for name, *sys.argv[1:] in json.loads(sys.argv[1]):
    importlib.import_module("ssagan_jax." + name).main()
"""


def run(program, *arguments):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests/no_network'}:{ROOT}"}
    environment["HF_HUB_OFFLINE"] = "0"  # It would hide a request.
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "opens",
    [
        "socket.create_connection(('192.0.2.1', 9), timeout=1)",
        "socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))",
        "urllib.request.urlopen('http://host.invalid', timeout=1)",
    ],
)
def test_a_connection_would_be_noticed(opens):
    done = run(f"import socket, urllib.request\ntry: {opens}\nexcept OSError: pass")
    assert done.returncode == 99 and "socket." in done.stderr


def test_prepare_convert_and_export_open_no_connection(tiny_config, tmp_path):
    workdir = tiny_run.make_run(tmp_path / "run", tiny_config).path
    source = tmp_path / "pictures"
    source.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"a red car with {number} doors\n")
    prepare = f"--source={source}", "--name=cars", "--image_size=32"
    commands = [
        ("prepare", *prepare, f"--prepared_dir={tmp_path / 'prepared'}"),
        ("convert", f"--workdir={workdir}", f"--output={tmp_path / 'pytorch'}"),
        ("export", f"--workdir={workdir}", f"--output={tmp_path / 'model'}"),
    ]
    done = run(RUNS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model/config.json").exists() and any((tmp_path / "pytorch").iterdir())
    assert any((tmp_path / "prepared").rglob("dataset_info.json"))
