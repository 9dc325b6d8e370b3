"""`prepare --engine`: a Ray cluster writes the same bits as one machine, and what it refuses."""

import errno
import functools
import json
import shutil
import socket
import sys
import tarfile
import types

import pytest
from picture_trees import draw, sidecar
from prepare_command import run_prepare

from ssagan_jax.data.engines import ray_cluster
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.ingest import write_pictures
from ssagan_jax.data.ordered_map import ordered_map
from ssagan_jax.data.prepared import shard_writer
from ssagan_jax.data.prepared.prepared_sets import sets_folder
from ssagan_jax.errors import DataError, InputError


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the command on tmp_path/data; returns its exit code and what it printed."""

    def run(*flags):
        known = [f"--source={tmp_path / 'data'}", "--name=cars", "--image_size=32"]
        known.append(f"--prepared_dir={tmp_path / 'sets'}")
        return run_prepare(monkeypatch, capsys, *known, *flags)

    return run


def written(tmp_path):
    folder = sets_folder(str(tmp_path / "sets")) / "cars"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("engine", ["spark", "ray:", "ray://", "ray://host", "ray://host:port"])
def test_an_unknown_engine_is_refused(run, tmp_path, engine):
    sidecar(tmp_path / "data")
    message = f"--engine={engine}: must be local, ray or ray://HOST:PORT"
    code, printed = run(f"--engine={engine}")
    assert code == 2 and message in printed and not (tmp_path / "sets").exists()


def test_an_address_where_nobody_listens_is_named(run, tmp_path, monkeypatch):
    sidecar(tmp_path / "data")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    message = f"nothing answers at {address} (Connection refused); start Ray there"
    code, printed = run(f"--engine=ray://{address}")
    assert code == 2 and f"--engine=ray://{address}: " in printed
    assert message.replace(address, f"ray://{address}") in printed
    monkeypatch.setenv("RAY_ADDRESS", address)
    code, printed = run("--engine=ray")
    assert code == 2 and message in printed and not (tmp_path / "sets").exists()


def test_without_the_extra_the_command_that_installs_it_is_named(run, tmp_path, monkeypatch):
    sidecar(tmp_path / "data")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, printed = run("--engine=ray")
    assert code == 2 and "pip install 'ssagan_jax[ray]'" in printed and "every machine" in printed
    assert not (tmp_path / "sets").exists()


def test_a_worker_with_other_packages_or_without_the_source_is_refused(tmp_path):
    versions = ray_cluster._versions()
    assert ray_cluster._run(versions, [str(tmp_path)], abs, [-1, 2]) == [1, 2]
    with pytest.raises(InputError, match=r"has pillow \d.*, and this machine has 0\.1"):
        ray_cluster._run(versions | {"pillow": "0.1"}, [], abs, [])
    with pytest.raises(InputError, match="does not see .*/none; --source and"):
        ray_cluster._run(versions, [str(tmp_path), str(tmp_path / "none")], abs, [])


def test_workers_must_see_a_file_of_the_source(tmp_path):
    file = draw(tmp_path / "data" / "sub" / "1.png", 1)
    for source in (tmp_path / "data", file, f"{tmp_path}/data/sub/{{0..1}}.png"):
        assert ray_cluster._first_file(str(source)) == file
    assert ray_cluster._first_file("coco_captions").name == "coco_captions"


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (RayTaskError(OSError(errno.ENOSPC, "disk full")), OSError, "disk full"),
        (RayTaskError(DataError("changed")), DataError, "^changed$"),
        (
            RayTaskError(
                RuntimeError("failed to import on the worker:\nModuleNotFoundError: no x")
            ),
            InputError,
            r"a worker cannot import what it needs \(no x\); install",
        ),
        (RayError("The node died.\nIts log"), InputError, "died.; see .* run the same command"),
        (ConnectionError("lost"), InputError, "--engine: lost; see"),
    ],
)
def test_what_a_worker_or_the_cluster_reports_is_explained(failure, kind, message):
    cancelled = []

    def get(task):
        if task() == [-2]:
            raise failure
        return task()

    ray = types.SimpleNamespace(
        exceptions=types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
        remote=lambda **_: (
            lambda function: types.SimpleNamespace(
                remote=functools.partial(functools.partial, function)
            )
        ),
        cluster_resources=lambda: {"CPU": 1.0},
        get=get,
        cancel=cancelled.append,
    )
    results = ray_cluster.RayCluster(ray).map(int.__neg__, range(9), 1)
    assert [next(results), next(results)] == [(0, 0), (1, -1)]
    with pytest.raises(kind, match=message):
        next(results)
    assert len(cancelled) == 2  # Those that were queued.


def test_the_bits_of_a_record_do_not_depend_on_the_process(tmp_path):
    item = Item("a", draw(tmp_path / "a.png", 1), ("a red car",))
    job = write_pictures.PictureJob(tmp_path / "train.array_record", item, 0)
    ((_, record),) = write_pictures._encode([job], 38, ordered_map)
    keys = [b"attributes", b"captions", b"class_id", b"image", b"name"]
    at = [record.index(bytes([10, len(key)]) + key) for key in keys]
    assert at == sorted(at)  # Otherwise as a process's seed has it.


def test_ray_writes_the_same_bits_and_continues_what_another_engine_began(
    run, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="pip install -e '.[ray]' to test --engine=ray")
    (tmp_path / "data").mkdir()
    pictures = sidecar(tmp_path / "pictures", 9)
    (pictures / "08.png").write_bytes(b"broken")
    for number in range(2):
        with tarfile.open(tmp_path / "data" / f"{number}.tar", "w") as tar:
            for file in sorted(pictures.iterdir()):
                tar.add(file, file.name)
    monkeypatch.setattr(shard_writer, "_SHARD_EXAMPLES", 3)  # Decides on the driver alone.
    assert run("--skip_bad")[0] == 0
    whole = written(tmp_path)
    assert len([name for name in whole if "array_record" in name]) == 6
    folder = sets_folder(str(tmp_path / "sets"))
    shutil.rmtree(folder / "cars")

    # A local run is cut off while it writes.
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer.Shards, "write_info", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("--skip_bad")
    (unfinished,) = folder.glob(".part-cars/set")
    lost = sorted(unfinished.glob("*.array_record*"))[2:]
    for shard in lost:
        shard.unlink()
    (unfinished / f"{lost[0].name}.part-of-a-lost-worker").write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in unfinished.glob("*.array_record*-of-?????")}
    assert len(kept) == 2

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)  # Else Ray keeps one in the home folder.
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Else other processes come first.
    code, printed = run("--skip_bad", "--engine=ray")
    assert code == 0, printed
    assert "engine: Ray " in printed and "machines: 1" in printed
    assert written(tmp_path) == whole
    for path, time in kept.items():
        assert (folder / "cars" / path.name).stat().st_mtime_ns == time
    errors = json.loads(whole["report.json"])["errors"]
    assert [error["name"] for error in errors] == ["0/08", "1/08"]
