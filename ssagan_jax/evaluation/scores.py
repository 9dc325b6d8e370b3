"""A score with its recipe: a line of eval/metrics.jsonl, and text for the terminal."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ssagan_jax.atomic_files import write_atomically
from ssagan_jax.errors import InputError
from ssagan_jax.metrics.inception_weights import SHA256_PREFIX
from ssagan_jax.untrusted.files import parse_json, read_text
from ssagan_jax.untrusted.limits import TABLE_BYTES
from ssagan_jax.workdir import Workdir

MIN_FID_IMAGES = 2048  # below it the covariance of the 2048 features does not have full rank
_FID, _KID = ("fid", "fid_torchvision"), ("kid", "kid_torchvision")


@dataclasses.dataclass(frozen=True)
class Score:
    """A number and how it was computed.

    Attributes:
      step: of the checkpoint, counted over both stages.
      epoch: epochs of stage 2 completed at that step.
      stage: "encoders" or "gan".
      split: "train" or "validation", the source of captions and real images.
      name: "fid" and so on.
      value: the number.
      std: its standard deviation; None if it has none.
      recipe: all that is needed to compute the same number again.
    """

    step: int
    epoch: float
    stage: str
    split: str
    name: str
    value: float
    std: float | None
    recipe: dict[str, Any]


def write_scores(workdir: Workdir, scores: Sequence[Score]) -> None:
    """Appends a line for each score to eval/metrics.jsonl; an equal line moves to the end.

    Processes that do so at once wait for each other, where the file system has locks.
    """
    path = workdir.metrics
    lines = [json.dumps(dataclasses.asdict(score)) for score in scores]
    with _locked(path.parent):
        before = read_text(path, TABLE_BYTES).splitlines() if path.exists() else []
        lines = [line for line in before if line not in lines] + lines
        write_atomically(path, "".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_scores(workdir: Workdir, split: str) -> dict[int, dict[str, Score]]:
    """The scores of a split in eval/metrics.jsonl by step and name; the last line of each counts.

    Raises:
      InputError: a line is not a score.
    """
    scores: dict[int, dict[str, Score]] = {}
    path = workdir.metrics
    lines = read_text(path, TABLE_BYTES).splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            score = Score(**row | {"step": int(row["step"]), "value": float(row["value"])})
            _check_types(score)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(
                f"{path}:{number}: not a score ({type(error).__name__}: {error}); remove the line "
                "and run python -m ssagan_jax.evaluate again"
            ) from error
        if score.split == split:
            scores.setdefault(score.step, {})[score.name] = score
    return scores


def _check_types(score: Score) -> None:
    """Raises TypeError for values that a file may have and `Score` may not."""
    if not isinstance(score.recipe, dict):
        raise TypeError("recipe is not an object")
    counts = [score.recipe.get(key, 0) for key in ("num_real", "num_generated")]
    if not (
        isinstance(score.epoch, int | float)
        and isinstance(score.std, int | float | None)
        and all(isinstance(text, str) for text in (score.stage, score.split, score.name))
        and all(type(count) is int for count in counts)
    ):
        raise TypeError("epoch, stage, split, name, std or recipe have another type")


def format_scores(scores: Iterable[Score]) -> str:
    """Scores as lines of text; KID comes first if there are too few images for FID."""
    lines, scores = [], list(scores)
    fids = [score for score in scores if score.name in _FID]
    counts = [score.recipe[key] for score in fids for key in ("num_real", "num_generated")]
    if counts and min(counts) < MIN_FID_IMAGES:
        scores.sort(key=lambda score: score.name not in _KID)
        lines.append(
            f"FID from only {min(counts)} images: below {MIN_FID_IMAGES} it is biased and not "
            "comparable across papers; use KID"
        )
    for score in scores:
        if score.name == "fid" and not score.recipe["weights_sha256"].startswith(SHA256_PREFIX):
            lines.append(
                "the Inception weights are not the published file: compare these scores only with "
                "scores from the same file"
            )
    for score in scores:
        std = "" if score.std is None else f" +- {score.std:.4g}"
        lines.append(f"{score.name:26} {score.value:.4g}{std}")
    return "\n".join(lines)
