"""The cache of compiled programs: where it is, and that no damage to it stops a command."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ssagan_jax.config.compilation_cache import MAX_BYTES, OFF, enable_compilation_cache
from ssagan_jax.errors import InputError

PROGRAM = """
import sys, jax, numpy
from ssagan_jax.config.compilation_cache import enable_compilation_cache
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rpartition("/")[2]))
folder = enable_compilation_cache(*sys.argv[1:])
result = jax.jit(lambda x: (x @ x).sum())(numpy.full((2, 2), 3, "f4"))
print(folder, int(result), events.count("cache_hits"), events.count("cache_misses"))
print(jax.config.jax_compilation_cache_max_size)
"""


def run(*arguments, **environment):
    """(folder, result, hits, misses, bound, standard error) of a process that compiles."""
    root = str(Path(__file__).parents[1])
    inherited = {key: os.environ[key] for key in ("PATH", "XLA_FLAGS") if key in os.environ}
    environment = inherited | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return *done.stdout.split(), done.stderr


def test_programs_are_read_again_and_damaged_ones_are_compiled(tmp_path):
    folder = tmp_path / "ssagan_jax" / "compiled"
    settings = {
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    assert run(**settings)[:5] == (str(folder), "72", "0", "1", str(MAX_BYTES))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run(**settings)[2:4] == ("1", "0")

    (entry,) = folder.glob("*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    *_, result, hits, _, _, errors = run(**settings)
    assert (result, hits) == ("72", "0")
    assert "Error reading persistent compilation cache entry" in errors

    # As a process leaves it that is killed while it writes: it is replaced.
    Path(str(entry).removesuffix("-cache") + "-atime").unlink()
    assert run(**settings)[2:4] == ("0", "1")
    assert run(**settings)[2:4] == ("1", "0")


def test_the_cache_can_be_moved_and_switched_off(tmp_path):
    moved = tmp_path / "moved"
    settings = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "HOME": str(tmp_path)}
    assert run(str(moved), **settings)[0] == str(moved)
    assert len(list(moved.glob("*-cache"))) == 1
    assert run(OFF, **settings)[:4] == ("None", "72", "0", "0")
    by_jax = tmp_path / "by_jax"
    assert run(JAX_COMPILATION_CACHE_DIR=str(by_jax), **settings)[:4] == ("None", "72", "0", "1")
    assert len(list(by_jax.glob("*-cache"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by_jax", "moved"]


def test_without_a_usable_folder_there_is_no_cache(monkeypatch, tmp_path):
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "SSAGAN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("HOME", os.devnull)  # Nothing can be created there, not even by root.
    assert enable_compilation_cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert enable_compilation_cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # Invalid, so that ~ is asked for.
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # There is none.
    monkeypatch.chdir(tmp_path)
    assert enable_compilation_cache() is None
    assert list(tmp_path.iterdir()) == []
    assert jax.config.jax_compilation_cache_dir == before


def test_a_folder_of_the_users_choice_must_be_usable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"compilation_cache='.*file': cannot be used .*'off'"):
        enable_compilation_cache(str(tmp_path / "file"))
