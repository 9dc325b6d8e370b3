"""Runs the parts of `prepare` that decode and write pictures on a Ray cluster.

The driver lists the source, in its own order, and hands out blocks of entries; workers read the
pictures themselves from a file system that all machines share. Results come back in order and
shards are named by position, so the machines and their timing leave no trace in what is written.
Ray repeats the tasks of a worker or a machine that is lost.
"""

import collections
import contextlib
import functools
import importlib.metadata
import itertools
import os
import platform
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ssagan_jax import __version__
from ssagan_jax.data.formats.safe_paths import walk_files
from ssagan_jax.errors import InputError

Input = TypeVar("Input")
Output = TypeVar("Output")

ENGINES = "local, ray or ray://HOST:PORT"
_BLOCK = 64  # Entries of a task: long enough to hide its overhead, short enough to be repeated.
_QUEUED = 2  # Tasks per CPU: enough that none waits for the driver.
_RETRIES = 5  # Of a task whose machine is lost; machines that can be preempted are lost often.
_CONNECT_SECONDS = 10.0
# Their versions determine the bits: of JPEGs decoded, PNGs encoded, and records written.
_PACKAGES = ("pillow", "numpy", "array_record", "tensorflow-datasets", "protobuf")


class RayCluster:
    """A connection to a Ray cluster, made by `open_engine`."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._paths: list[str] = []
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")
        self._run = remote(_run).remote

    def require(self, path: Path) -> None:
        """From now on, every machine must see a file or folder, if this one does."""
        if path.exists():
            self._paths.append(str(path))

    def map(
        self, function: Callable[[Input], Output], items: Iterable[Input], block: int = _BLOCK
    ) -> Iterator[tuple[Input, Output]]:
        """Yields each item with the function's result, in order, as `ordered_map` does.

        Raises:
          InputError: a machine does not see the source or the target, has other versions of what
            determines the bits, or was lost too often; the function's own errors are raised too.
        """
        items = iter(items)
        waiting: collections.deque = collections.deque()
        try:
            with self._explain_loss():
                while chunk := list(itertools.islice(items, block)):
                    waiting.append((chunk, self._run(_versions(), self._paths, function, chunk)))
                    if len(waiting) > _QUEUED * self.cpus():
                        yield from self._first_of(waiting)
                while waiting:
                    yield from self._first_of(waiting)
        finally:  # Also if the caller stops early.
            with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError):
                for _, task in waiting:
                    self._ray.cancel(task)

    def store(self, items: Sequence[Input]) -> Callable[[], Sequence[Input]]:
        """Puts items into the cluster's memory, or on its disks if that is full.

        Returns:
          A function that gets them, on any machine.
        """
        return functools.partial(_get, [self._ray.put(items)])

    def cpus(self) -> int:
        """How many CPUs the machines have that are connected now."""
        return int(self._ray.cluster_resources().get("CPU", 0))

    def __str__(self) -> str:
        machines = sum(node["Alive"] for node in self._ray.nodes())
        return f"Ray {self._ray.__version__}, machines: {machines}, CPUs: {self.cpus()}"

    def _first_of(self, waiting: collections.deque) -> Iterator[tuple[Any, Any]]:
        chunk, task = waiting.popleft()
        try:
            results = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            # The function's own exception, of which Ray's holds a worker's traceback as text.
            raise _cause(error) from None
        yield from zip(chunk, results, strict=True)

    @contextlib.contextmanager
    def _explain_loss(self) -> Iterator[None]:
        """Raises InputError if the cluster, or one machine after the other, is lost."""
        try:
            yield
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            if isinstance(error, self._ray.exceptions.RayTaskError):
                raise
            raise InputError(
                f"--engine: {_first_line(error)}; see the logs of Ray. What is done is kept: run "
                "the same command to continue, with this engine or another"
            ) from None


@contextlib.contextmanager
def open_engine(engine: str, source: str) -> Iterator[RayCluster | None]:
    """Connects to the cluster that `--engine` names, and prints how large it is.

    Args:
      engine: "local" for this machine without a cluster; "ray" for the cluster of RAY_ADDRESS or
        else of this machine, which Ray starts if there is none; "ray://HOST:PORT" for the cluster
        whose client port that is.
      source: what is prepared. If it is here, every machine must see it.

    Yields:
      The cluster; None for "local".

    Raises:
      InputError: there is no such engine, it is not installed, or it cannot be reached.
    """
    check_engine(engine)
    if engine == "local":
        yield None
        return
    address = engine if "://" in engine else os.environ.get("RAY_ADDRESS", "")
    _check_reachable(engine, address)
    # Read when ray is imported or started. No report to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Of the tasks that were queued behind one that failed.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"--engine={engine}: needs Ray ({error}); run pip install 'ssagan_jax[ray]', from a "
            "clone pip install -e '.[ray]', on every machine"
        ) from None
    try:
        ray.init(address or None, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--engine={engine}: Ray cannot connect to {address or 'this machine'} "
            f"({_first_line(error)}); see `ray status` there"
        ) from None
    try:
        cluster = RayCluster(ray)
        if not cluster.cpus():
            raise InputError(
                f"--engine={engine}: the cluster has no CPU; add a machine to it by "
                "`ray start --address=HOST:PORT`"
            )
        cluster.require(_first_file(source))
        print(f"engine: {cluster}", flush=True)
        yield cluster
    finally:
        ray.shutdown()


def check_engine(engine: str) -> None:
    """Raises InputError unless `--engine` is one of `ENGINES`."""
    if engine not in ("local", "ray") and not re.fullmatch(r"ray://[^/:\s]+:\d{1,5}", engine):
        raise InputError(f"--engine={engine}: must be {ENGINES}")


def _first_file(source: str) -> Path:
    """A file of the source: the folder alone may be there where a disk is not mounted."""
    path = Path(os.path.dirname(source.partition("{")[0]) if "{" in source else source)
    return next((path / file for file in walk_files(path)), path) if path.is_dir() else path


def _check_reachable(engine: str, address: str) -> None:
    """Raises InputError if nobody listens; Ray itself would retry for a minute or more."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not port.isdecimal():  # Ray finds it, or starts it.
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"--engine={engine}: nothing answers at {address} ({reason}); start Ray there by "
            "`ray start --head --ray-client-server-port=10001`, or correct the address"
        ) from None


def _run(
    versions: dict[str, str], paths: Sequence[str], function: Callable, items: Sequence
) -> list:
    """A task: applies the function to items, if this machine is like the driver's."""
    here = _versions()
    differing = [name for name, version in versions.items() if here[name] != version]
    if differing:
        name = differing[0]
        raise InputError(
            f"--engine: {socket.gethostname()} has {name} {here[name]}, and this machine has "
            f"{versions[name]}; install the same version, since the prepared set depends on it"
        )
    for path in paths:
        if not os.path.exists(path):
            raise InputError(
                f"--engine: {socket.gethostname()} does not see {path}; --source and "
                "--prepared_dir must be on a file system that all machines share, at the same path"
            )
    return [function(item) for item in items]


@functools.cache
def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"ssagan_jax": __version__, "Python": platform.python_version()} | found


def _get(references: Sequence) -> Any:
    import ray

    return ray.get(references[0])


def _cause(error: Any) -> BaseException:
    cause = error.cause
    if isinstance(cause, ImportError) or "failed to import on the worker" in str(cause):
        missing = re.findall("ModuleNotFoundError: (.*)", str(cause)) or [_first_line(cause)]
        return InputError(
            f"--engine: a worker cannot import what it needs ({missing[-1]}); install this "
            "version of ssagan_jax with the extra ray on every machine"
        )
    return cause if isinstance(cause, (InputError, OSError, RuntimeError)) else error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
