"""JAX's persistent compilation cache: what was compiled once is read, not compiled again."""

import os
from pathlib import Path

from ssagan_jax.errors import InputError

OFF = "off"
MAX_BYTES = 2 * 2**30
# What compiles faster than this is compiled about as fast as it is read.
_MIN_COMPILE_SECONDS = 0.05


def enable_compilation_cache(folder: str = "") -> Path | None:
    """Makes JAX keep compiled programs in a folder; call it before anything is compiled.

    The default folder is private, since whoever can write to it can run code in this process.
    Above `MAX_BYTES`, the programs that were not used for longest are deleted. JAX compiles again
    what it cannot read, and what was compiled by another version or for another machine. JAX's own
    settings in the environment take precedence, except over `folder`.

    Args:
      folder: created if it is missing; `OFF`: no cache; empty: JAX_COMPILATION_CACHE_DIR, or the
        user's cache folder, without which there is no cache.

    Returns:
      The folder; None if there is none, or the environment decides.

    Raises:
      InputError: `folder` is given and cannot be used.
    """
    import jax

    if folder == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if not folder and "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    path = Path(folder).expanduser().absolute() if folder else _default_folder()
    if path is None:
        return None
    try:
        _prepare(path, private=not folder)
    except (OSError, NotImplementedError) as error:
        if folder:
            raise InputError(
                f"config.train.compilation_cache={folder!r}: cannot be used ({error}); choose "
                f"another folder, or {OFF!r} for no cache"
            ) from error
        return None
    settings = {
        "jax_compilation_cache_dir": str(path),
        "jax_compilation_cache_max_size": MAX_BYTES,
        "jax_persistent_cache_min_compile_time_secs": _MIN_COMPILE_SECONDS,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ or name == "jax_compilation_cache_dir":
            jax.config.update(name, value)
    return path


def _default_folder() -> Path | None:
    """$SSAGAN_CACHE, $XDG_CACHE_HOME/ssagan_jax or ~/.cache/ssagan_jax; None without a home."""
    if root := os.environ.get("SSAGAN_CACHE"):
        return Path(root).absolute() / "compiled"
    parent = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(parent):  # Such values are to be ignored.
        parent = os.path.expanduser("~/.cache")
    return Path(parent, "ssagan_jax", "compiled") if os.path.isabs(parent) else None


def _prepare(path: Path, private: bool) -> None:
    """Creates the folder, and deletes what a process that was killed wrote in part.

    JAX writes KEY-cache and then KEY-atime. Without the second it could neither delete nor replace
    the first, nor add anything.

    Raises:
      OSError, NotImplementedError: it cannot be written or locked, or is not the user's own.
    """
    from filelock import FileLock

    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if private:
        path.chmod(0o700)  # Raises PermissionError in somebody else's folder.
    with FileLock(path / ".lockfile", timeout=10):  # The lock that JAX takes.
        keys = {
            suffix: {file.name.removesuffix(suffix) for file in path.glob(f"*{suffix}")}
            for suffix in ("-cache", "-atime")
        }
        for key in keys["-cache"] ^ keys["-atime"]:
            for suffix in keys:
                (path / (key + suffix)).unlink(missing_ok=True)
