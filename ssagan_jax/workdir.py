"""The work folder: everything that sampling, evaluation, the report and a resumed run need.

config.json      the run's config
tokenizer.json   its vocabulary
schedule.json    number of steps of both stages
dataset.json     numbers of images and captions of each split
checkpoints/     one folder per checkpoint, named after its step
checkpoints_best/  the best checkpoint by `config.eval.best`
best.json        its step and score
damaged/         corrupt checkpoints that were skipped
samples/         fixed.npz (captions, noise and real images of all sample grids), and for each grid
                 a PNG and an .npz of the generated images
eval/            metrics.jsonl, one line per score
health.jsonl     signs of overfitting and of collapse, one line per measurement
events...        of TensorBoard
train.log        log messages
train.lock       while a training runs: its machine and process
pytorch_extras.safetensors  of a converted model: tensors that only PyTorch's networks have
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.atomic_files import atomic_path, check_utf8, write_atomically
from ssagan_jax.config import config_from_dict, incompatible_keys
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.tokenizer import Tokenizer, load_tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.fixed_samples import FixedSamples, GeneratedSamples
from ssagan_jax.untrusted.archives import read_npz
from ssagan_jax.untrusted.files import read_json
from ssagan_jax.untrusted.safetensors_files import open_safetensors

_Samples = TypeVar("_Samples", FixedSamples, GeneratedSamples)


class WorkdirError(InputError):
    """A work folder is missing, belongs to another run, cannot be written or has no space."""


class Workdir:
    """Paths of a work folder, and the files that are written there once.

    Attributes:
      path: the folder.
      checkpoints: folder of the checkpoints.
      best_checkpoints: folder of the best checkpoint.
      best: JSON file of its step and score.
      samples: folder of the sample grids.
      pytorch_extras: safetensors file of the tensors that only PyTorch's networks have.
      metrics: JSON lines file of the scores.
      health: JSON lines file of the signs of overfitting and of collapse.
      log: text file of the log messages.
      lock: file that a training holds while it runs.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens nothing; raises InputError if the path is not UTF-8."""
        self.path = Path(path).expanduser().absolute()
        check_utf8("--workdir", self.path)
        self.checkpoints = self.path / "checkpoints"
        self.best_checkpoints = self.path / "checkpoints_best"
        self.best = self.path / "best.json"
        self.samples = self.path / "samples"
        self.pytorch_extras = self.path / "pytorch_extras.safetensors"
        self.metrics = self.path / "eval" / "metrics.jsonl"
        self.health = self.path / "health.jsonl"
        self.log = self.path / "train.log"
        self.lock = self.path / "train.lock"
        self._config = self.path / "config.json"
        self._tokenizer = self.path / "tokenizer.json"
        self._schedule = self.path / "schedule.json"
        self._dataset = self.path / "dataset.json"
        self._fixed_samples = self.samples / "fixed.npz"

    def sample_grid(self, step: int) -> Path:
        """The PNG of a step's sample grid."""
        return self.samples / f"step_{step:07d}.png"

    def schedule(self) -> Schedule:
        """The steps of both stages.

        Raises:
          WorkdirError: the file is missing or invalid.
        """
        try:
            values = read_json(self._schedule)
            if not all(type(value) is int and value >= 0 for value in values.values()):
                raise ValueError("not whole numbers")
            schedule = Schedule(**values)
            if schedule.steps_per_epoch < 1:
                raise ValueError("an epoch without a step")
            return schedule
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise _unreadable(self._schedule, error) from error

    def write_schedule(self, schedule: Schedule) -> None:
        """Writes the steps of both stages; replaced if the run is extended."""
        _write_json(self._schedule, dataclasses.asdict(schedule))

    def dataset_counts(self) -> dict[str, dict[str, int]]:
        """The numbers of "images" and "captions" by split; {} if they are not known."""
        if not self._dataset.exists():
            return {}
        try:
            counts = read_json(self._dataset)
            numbers = [counts[split][key] for split in counts for key in ("images", "captions")]
            if not all(type(number) is int for number in numbers):
                raise ValueError("not whole numbers")
            return counts
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise _unreadable(self._dataset, error) from error

    def write_dataset_counts(self, counts: dict[str, dict[str, int]]) -> None:
        """Writes the numbers of images and captions by split."""
        _write_json(self._dataset, counts)

    def fixed_samples(self) -> FixedSamples:
        """Captions, noise and real images of all sample grids.

        Raises:
          WorkdirError: the file is missing or invalid.
        """
        samples = _load(FixedSamples, self._fixed_samples)
        return dataclasses.replace(samples, captions=samples.captions.tolist())

    def write_fixed_samples(self, samples: FixedSamples) -> None:
        """Writes captions, noise and real images of all sample grids."""
        _save(self._fixed_samples, samples)

    def generated_samples(self, step: int) -> GeneratedSamples:
        """The generated images of a step's sample grid.

        Raises:
          WorkdirError: the file is missing or invalid.
        """
        return _load(GeneratedSamples, self.sample_grid(step).with_suffix(".npz"))

    def write_generated_samples(self, step: int, samples: GeneratedSamples) -> None:
        """Writes the generated images of a step's sample grid."""
        _save(self.sample_grid(step).with_suffix(".npz"), samples)

    def check_config(self, config: ConfigDict) -> None:
        """Checks that the folder can be written, and that it holds no run of another config.

        Raises:
          WorkdirError: names the path, or each key with the folder's and the given value.
        """
        if self._config.exists():
            if different := incompatible_keys(self.config(), config):
                raise WorkdirError(
                    f"{self.path}: this work folder belongs to another config:\n  "
                    + "\n  ".join(different)
                    + "\nChoose another --workdir, or delete this one to start over"
                )
        self.check_writable()

    def check_writable(self) -> None:
        """Raises WorkdirError, with the path, if the folder cannot be written or is a file."""
        existing = self._existing_path()
        if not existing.is_dir():
            raise WorkdirError(f"--workdir={self.path}: {existing} is a file; choose a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise WorkdirError(
                f"--workdir={self.path}: {existing} cannot be written; choose another folder"
            )

    def _existing_path(self) -> Path:
        """The folder, or its nearest parent that exists."""
        return next(folder for folder in (self.path, *self.path.parents) if folder.exists())

    def write_config(self, config: ConfigDict) -> None:
        """Writes the config; creates the folder if it is missing."""
        _write_json(self._config, config.to_dict())

    def config(self) -> ConfigDict:
        """The run's config.

        Raises:
          WorkdirError: the folder holds no run, an exported model, or a run of another version of
            the project.
        """
        try:
            values = read_json(self._config)
            if "format_version" not in values:
                return config_from_dict(values)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WorkdirError(
                f"--workdir={self.path}: no trained model here (config.json is missing); train "
                "one with python -m ssagan_jax.main --config=... --workdir=..."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise WorkdirError(
                f"{self._config}: not a config of this version ({error!s:.300}); "
                "choose another --workdir"
            ) from error
        raise WorkdirError(
            f"--workdir={self.path}: is an exported model folder, which has no checkpoints, data "
            "or scores; give the work folder of its training (sample, serve and load_model open "
            "model folders)"
        )

    def checkpoint_steps(self) -> list[int]:
        """Steps of the checkpoints, ascending."""
        children = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return sorted(int(child.name) for child in children if child.name.isdigit())

    def converted(self) -> dict[str, str]:
        """The networks that were converted from PyTorch, with the prefix of their tensors' names.

        The others are untrained. {} if the folder holds a training run.
        """
        if not self.pytorch_extras.exists():
            return {}
        with open_safetensors(self.pytorch_extras) as file:
            return file.metadata() or {}

    def has_image_encoder(self) -> bool:
        """Whether the image encoder is trained, or converted from PyTorch."""
        return not self.converted() or "image_encoder" in self.converted()

    def check_generator(self) -> None:
        """Raises WorkdirError if the folder holds converted encoders without a generator."""
        if self.converted() and "generator" not in self.converted():
            raise WorkdirError(
                f"--workdir={self.path}: its generator is untrained; use the folder as "
                "config.damsm.checkpoint, or convert it with --generator"
            )

    def sample_grid_steps(self) -> list[int]:
        """Steps of the sample grids, ascending."""
        return sorted(
            int(path.stem.removeprefix("step_")) for path in self.samples.glob("step_*.png")
        )

    def has_tokenizer(self) -> bool:
        """Whether the folder holds a tokenizer."""
        return self._tokenizer.exists()

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer; raises TokenizerError if there is none."""
        return load_tokenizer(self._tokenizer)

    def write_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Writes the run's tokenizer."""
        with atomic_path(self._tokenizer) as temporary:
            tokenizer.save(temporary)

    def check_disk_space(self, needed: int) -> None:
        """Checks that the disk has space for the checkpoints.

        Args:
          needed: bytes.

        Raises:
          WorkdirError: names the free and the needed space in MiB.
        """
        free = shutil.disk_usage(self._existing_path()).free
        if free < needed:
            raise WorkdirError(
                f"{self.path}: {free / 2**20:.0f} MiB free, but the checkpoints need "
                f"{needed / 2**20:.0f} MiB; free some space, choose another --workdir or lower "
                "config.log.keep_checkpoints"
            )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def _save(path: Path, samples: FixedSamples | GeneratedSamples) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **vars(samples))


def _load(kind: type[_Samples], path: Path) -> _Samples:
    try:
        return kind(**read_npz(path))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WorkdirError:
    return WorkdirError(
        f"{path}: cannot be read ({error!s:.300}); every run of this version writes it, so "
        "train in another --workdir"
    )
