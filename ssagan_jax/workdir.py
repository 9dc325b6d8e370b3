"""A work folder: all that sampling, evaluation and a resumed run need, in one place.

config.json     the run's configuration
tokenizer.json  its vocabulary
schedule.json   steps of both stages
checkpoints/    states
samples/        sample grids: fixed.npz (captions, noise, real pictures), and for each grid a PNG
                and an .npz of what was generated
pytorch_extras.safetensors  of converted weights: tensors that only PyTorch's networks have
eval/           metrics.jsonl, a line for each score
events...       for TensorBoard
train.log
"""

import dataclasses
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import TypeVar

import safetensors
from ml_collections import ConfigDict

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.config import config_from_dict, incompatible_keys
from ssagan_jax.data.tokenizer import Tokenizer, load_tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.fixed_samples import FixedSamples, GeneratedSamples
from ssagan_jax.schedule import Schedule

_Samples = TypeVar("_Samples", FixedSamples, GeneratedSamples)


class WorkdirError(InputError):
    """A work folder that is missing, belongs to another run, or has no room."""


class Workdir:
    """Paths of a work folder, and what is written there once.

    Attributes:
      path: the folder.
      checkpoints: folder of the states.
      samples: folder of the sheets.
      pytorch_extras: file of the tensors that only PyTorch's networks have.
      metrics: text file of the scores.
      log: text file of the run's messages.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.pytorch_extras = self.path / "pytorch_extras.safetensors"
        self.metrics = self.path / "eval" / "metrics.jsonl"
        self.log = self.path / "train.log"
        self._config = self.path / "config.json"
        self._tokenizer = self.path / "tokenizer.json"

    def sample_grid(self, step: int) -> Path:
        """The sample sheet of a step."""
        return self.samples / f"step_{step:07d}.png"

    def schedule(self) -> Schedule:
        """The steps of both stages.

        Raises:
          WorkdirError: there is no such file, or it is not one.
        """
        path = self.path / "schedule.json"
        try:
            return Schedule(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise WorkdirError(f"{path}: cannot be read ({error}); train in this folder") from error

    def write_schedule(self, schedule: Schedule) -> None:
        """Writes the steps of both stages; a longer run replaces them."""
        content = json.dumps(dataclasses.asdict(schedule), indent=2) + "\n"
        write_atomically(self.path / "schedule.json", content)

    def fixed_samples(self) -> FixedSamples:
        """Captions, noise and real pictures of all sample grids.

        Raises:
          WorkdirError: there is no such file, or it is not one.
        """
        return self._load(FixedSamples, self.samples / "fixed.npz")

    def write_fixed_samples(self, samples: FixedSamples) -> None:
        """Writes captions, noise and real pictures of all sample grids."""
        samples.save(self.samples / "fixed.npz")

    def generated_samples(self, step: int) -> GeneratedSamples:
        """The generated pictures of a step's sample grid.

        Raises:
          WorkdirError: there is no such file, or it is not one.
        """
        return self._load(GeneratedSamples, self.sample_grid(step).with_suffix(".npz"))

    def write_generated_samples(self, step: int, samples: GeneratedSamples) -> None:
        """Writes the generated pictures of a step's sample grid."""
        samples.save(self.sample_grid(step).with_suffix(".npz"))

    @staticmethod
    def _load(kind: type[_Samples], path: Path) -> _Samples:
        try:
            return kind.load(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise WorkdirError(f"{path}: cannot be read ({error}); train in this folder") from error

    def check_config(self, config: ConfigDict) -> None:
        """Refuses a folder that cannot be written, or that holds a run of another config.

        Raises:
          WorkdirError: naming the place, or each key with the folder's and the given value.
        """
        if self._config.exists():
            if different := incompatible_keys(self.config(), config):
                raise WorkdirError(
                    f"{self.path}: this work folder belongs to another config:\n  "
                    + "\n  ".join(different)
                    + "\nChoose another --workdir, or remove this one to start over"
                )
        place = self._place()
        if not place.is_dir():
            raise WorkdirError(f"--workdir={self.path}: {place} is a file; choose a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise WorkdirError(f"--workdir={self.path}: {place} cannot be written; choose another")

    def _place(self) -> Path:
        """The folder, or the nearest one above it that exists."""
        return next(folder for folder in (self.path, *self.path.parents) if folder.exists())

    def write_config(self, config: ConfigDict) -> None:
        """Makes the folder and writes the config, as one step that leaves no half of a file."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self._config.with_suffix(".part")
        partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        partial.replace(self._config)

    def config(self) -> ConfigDict:
        """The run's config.

        Raises:
          WorkdirError: the folder holds no run, or one of another version of the project.
        """
        try:
            return config_from_dict(json.loads(self._config.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WorkdirError(
                f"--workdir={self.path}: no trained model here (config.json is missing); train "
                "one with python -m ssagan_jax.main --config=... --workdir=..."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WorkdirError(f"{self._config}: not a config of this version ({error})") from error

    def checkpoint_steps(self) -> list[int]:
        """Steps of the checkpoints, in order."""
        children = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return sorted(int(child.name) for child in children if child.name.isdigit())

    def converted(self) -> dict[str, str]:
        """The networks that were converted from PyTorch, with the prefix of their tensors' names.

        Those that are missing are untrained. {} if the folder is of a training run.
        """
        if not self.pytorch_extras.exists():
            return {}
        with safetensors.safe_open(self.pytorch_extras, "numpy") as file:
            return file.metadata()

    def check_generator(self) -> None:
        """Refuses converted encoders that came without a generator; raises WorkdirError."""
        if self.converted() and "generator" not in self.converted():
            raise WorkdirError(
                f"--workdir={self.path}: its generator is untrained; use the folder as "
                "config.damsm.checkpoint, or convert it with --generator"
            )

    def sample_grid_steps(self) -> list[int]:
        """Steps of the sample sheets, in order."""
        return sorted(
            int(path.stem.removeprefix("step_")) for path in self.samples.glob("step_*.png")
        )

    def has_tokenizer(self) -> bool:
        """Whether the folder holds a tokenizer."""
        return self._tokenizer.exists()

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer; raises TokenizerError where there is none."""
        return load_tokenizer(self._tokenizer)

    def write_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Writes the run's tokenizer."""
        partial = self._tokenizer.with_suffix(".part")
        tokenizer.save(partial)
        partial.replace(self._tokenizer)

    def check_disk_space(self, needed: int) -> None:
        """Refuses to start where the disk cannot take the run.

        Args:
          needed: bytes.

        Raises:
          WorkdirError: with both figures in MiB.
        """
        free = shutil.disk_usage(self._place()).free
        if free < needed:
            raise WorkdirError(
                f"{self.path}: {free / 2**20:.0f} MiB free, and the checkpoints take "
                f"{needed / 2**20:.0f} MiB; free some space, choose another --workdir or lower "
                "config.log.keep_checkpoints"
            )
