"""A score with its recipe, as a line of eval/metrics.jsonl and as text to read."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from ssagan_jax.metrics.inception_weights import SHA256_PREFIX
from ssagan_jax.workdir import Workdir

COMPARABLE = 2048  # pictures on a side from which on the covariance of 2048 features has full rank
_FRECHET, _KERNEL = ("fid", "fid_torchvision"), ("kid", "kid_torchvision")


@dataclasses.dataclass(frozen=True)
class Score:
    """A number and how it came about.

    Attributes:
      step: of the checkpoint, over both stages.
      epoch: epochs of the GAN's training done at that step.
      stage: "encoders" or "gan".
      split: whose captions and real pictures.
      name: "fid" and so on.
      value: the number.
      std: its own spread where it has one.
      recipe: all that it takes to compute the same number.
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
    """Puts a line for each score at the end of eval/metrics.jsonl; none stands there twice."""
    file = workdir.metrics
    file.parent.mkdir(exist_ok=True)
    before = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [json.dumps(dataclasses.asdict(score)) for score in scores]
    lines = [line for line in before if line not in lines] + lines
    partial = file.with_suffix(".part")
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    partial.replace(file)


def read_scores(workdir: Workdir, step: int, split: str) -> list[Score]:
    """A checkpoint's scores in eval/metrics.jsonl, the last one of each name."""
    if not workdir.metrics.exists():
        return []
    rows = map(json.loads, workdir.metrics.read_text(encoding="utf-8").splitlines())
    # Older lines hold several scores and no name.
    scores = [Score(**row) for row in rows if "name" in row]
    scores = [score for score in scores if (score.step, score.split) == (step, split)]
    return list({score.name: score for score in scores}.values())


def format_scores(scores: Sequence[Score]) -> str:
    """Scores as lines to read; KID leads where there are too few pictures for an FID."""
    lines, scores = [], list(scores)
    frechet = [score for score in scores if score.name in _FRECHET]
    counts = [score.recipe[side] for score in frechet for side in ("num_real", "num_generated")]
    if counts and min(counts) < COMPARABLE:
        scores.sort(key=lambda score: score.name not in _KERNEL)
        lines.append(
            f"{min(counts)} pictures on a side, fewer than {COMPARABLE}: this FID is not "
            "comparable across papers; go by KID"
        )
    for score in scores:
        if score.name == "fid" and not score.recipe["weights_sha256"].startswith(SHA256_PREFIX):
            lines.append(
                "the Inception weights are not the published file: scores from them compare "
                "with each other alone"
            )
    for score in scores:
        spread = "" if score.std is None else f" +- {score.std:.4g}"
        lines.append(f"{score.name:26} {score.value:.4g}{spread}")
    return "\n".join(lines)
