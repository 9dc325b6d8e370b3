"""Models on the hub: the real client against a stand-in server on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from hub_server import TOKEN, Hub

from ssagan_jax.errors import InputError
from ssagan_jax.inference import model_loading
from ssagan_jax.inference.hub import is_hub_name

ROOT = Path(__file__).parents[1]
# The client reads its environment when it is imported, hence one process for all.
PROGRAM = """
import contextlib, io, json, sys
import numpy as np
import tiny_run
from ssagan_jax import export, sample
from ssagan_jax.inference import hub
from ssagan_jax.inference.model_loading import load_model

workdir, folder = sys.argv[1:]
answers = {}

def message(key, function):
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            function()
        except SystemExit as stop:
            answers[key] = [stop.code, error.getvalue()]
        except Exception as caught:
            answers[key] = [type(caught).__name__, str(caught)]

def push(output, name, *flags):
    sys.argv = ["export", f"--workdir={workdir}", f"--output={output}", f"--push_to={name}", *flags]
    export.main()

push(f"{folder}/cars", "user/cars", "--license=mit")
import huggingface_hub.constants
huggingface_hub.constants.HF_HUB_DISABLE_XET = False  # The stand-in takes no uploads over Xet.
original, fetched = load_model(workdir), load_model("user/cars")
captions = ["a red car", "a blue car in the city"]
pictures = [tiny_run.paint(model, captions) for model in (original, fetched)]
np.savez(f"{folder}/pictures.npz", *pictures)
sys.argv = ["sample", "--workdir=user/cars", "--caption=a red car", "--num=1"]
sample.main()
message("bad name", lambda: push(f"{folder}/other", "cars"))
message("missing", lambda: load_model("user/none"))
message("too large", lambda: load_model("user/large"))
hub._MAX_BYTES = 2**22
message("endless", lambda: load_model("user/endless"))

huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
message("unreachable", lambda: load_model("user/none"))
np.save(f"{folder}/cached.npy", tiny_run.paint(load_model("user/cars"), captions))
message("upload fails", lambda: push(f"{folder}/kept", "user/cars"))
import os
del os.environ["HF_TOKEN"]
message("no token", lambda: push(f"{folder}/another", "user/cars"))
json.dump(answers, open(f"{folder}/answers.json", "w"))
"""


@pytest.fixture(scope="module")
def session(tiny_config, tmp_path_factory):
    """The hub, the folder of the program's results and its output."""
    folder = tmp_path_factory.mktemp("hub")
    workdir = tiny_run.make_run(folder / "run", tiny_config)
    with Hub() as hub:
        hub.repos["user/cars"] = {"evil.py": b"raise SystemExit(9)", "pytorch_model.bin": b"\x80"}
        weights = "generator.safetensors"
        for name in ("user/large", "user/endless"):
            hub.repos[name] = {"config.json": b"{}", weights: b"weights"}
        hub.declared["user/large", weights] = 5 * 2**30
        hub.endless.add(("user/endless", weights))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "cache"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(workdir.path), str(folder)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        yield hub, folder, done.stdout


def test_a_model_comes_back_from_the_hub_bit_for_bit(session):
    hub, folder, output = session
    assert f"uploaded to {hub.url}/user/cars" in output
    uploaded = {path.name: path.read_bytes() for path in (folder / "cars").iterdir()}
    assert len(uploaded) == 7
    assert {name: hub.repos["user/cars"][name] for name in uploaded} == uploaded
    with np.load(folder / "pictures.npz") as file:
        original, fetched = file["arr_0"], file["arr_1"]
    assert original.std() > 10
    np.testing.assert_array_equal(fetched, original)
    np.testing.assert_array_equal(np.load(folder / "cached.npy"), original)
    assert (folder / "generated/step_0000030_seed_0/grid.png").exists()
    assert not (folder / "user").exists()


def test_only_files_of_a_model_folder_are_fetched(session):
    hub, folder, _ = session
    fetched = {path.rpartition("/")[2] for _, path in hub.requests if "/resolve/" in path}
    assert "generator.safetensors" in fetched
    assert not fetched & {"evil.py", "pytorch_model.bin"}
    assert not list((folder / "cache").rglob("evil.py"))


def test_models_without_bound_fill_no_disk(session):
    hub, folder, _ = session
    assert not [path for _, path in hub.requests if path.startswith("/user/large/resolve/")]
    files = [path for path in (folder / "cache").rglob("*") if "user--endless" in str(path)]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 2**22


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("bad name", 2, "error: --push_to=cars: must be USER/NAME"),
        ("too large", "HubError", "user/large: this model of the hub has 5.0 GiB; at most 4.0"),
        ("endless", "HubError", "user/endless: this model of the hub has 0.0 GiB; at most 0.0"),
        ("missing", "HubError", "user/none: there is no such folder, and the hub has no such mode"),
        ("unreachable", "HubError", "user/none: there is no such folder, and the hub cannot be re"),
        ("upload fails", 2, "kept: the hub cannot be reached"),
        ("no token", 2, "error: --push_to=user/cars: no token of the hub; run `hf auth login`"),
    ],
)
def test_what_fails_is_said_in_one_sentence(session, case, code, message):
    _, folder, _ = session
    found, text = json.loads((folder / "answers.json").read_text())[case]
    assert found == code and message in text, text
    assert text.count("\n") <= 1
    assert (folder / "kept" / "config.json").exists()
    assert not (folder / "other").exists() and not (folder / "another").exists()


def test_a_path_is_no_name_of_the_hub(monkeypatch):
    monkeypatch.setattr(model_loading, "download_model", None)
    assert model_loading.find_model_folder(Path("runs/missing")) is None
    with pytest.raises(InputError, match="runs/missing: there is no such folder"):
        model_loading.load_model(Path("runs/missing"))


def test_names_of_the_hub():
    assert is_hub_name("user/cars-64.v2")
    for name in ("cars", "/user/cars", "user/cars/", "../cars", "a/b/c", "user/c rs", Path("a/b")):
        assert not is_hub_name(name)
