"""Fig. 5 to 9 of the paper: real and generated images, and the fusion masks of each stage."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ssagan_jax.checkpointing.checksums import CheckpointError
from ssagan_jax.inference.image_grid import mask_to_rgb
from ssagan_jax.inference.model_loading import load_model
from ssagan_jax.inference.sampler import sample_noise
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.reporting.runs import ReportedRun


@dataclasses.dataclass(frozen=True)
class Panel:
    """Captions with a run's images of them at one step.

    Attributes:
      column_titles: of the images.
      rows: captions, each with its images u8[S, S, 3].
      source: where the generated images come from, for the reader.
    """

    run: ReportedRun
    step: int
    column_titles: list[str]
    rows: list[tuple[str, list[np.ndarray]]]
    source: str


class RunFigures:
    """Makes the panels of one run; the checkpoint used last stays loaded, and a chosen one."""

    def __init__(self, run: ReportedRun, kept: int | None) -> None:
        """Loads the checkpoint `kept` now, before a training that goes on can delete it."""
        self._run = run
        self._kept = None if kept is None else load_model(run.workdir.path, kept)
        self._last = self._kept

    def model(self, step: int) -> TrainedModel:
        """The model of a checkpoint; raises what `load_model` does."""
        for model in (self._kept, self._last):
            if model and model.step == step:
                return model
        model = load_model(self._run.workdir.path, step)
        # All checkpoints share what is compiled.
        self._last = dataclasses.replace(model, sampler=self._last.sampler) if self._last else model
        return self._last

    def real_and_generated(self, step: int) -> Panel:
        """Fig. 5 to 8: the fixed captions of the run's sample grids, with real and generated image.

        Images are generated from the checkpoint of the step, or read from its sample grid if that
        checkpoint was deleted.
        """
        fixed = self._run.fixed_samples
        if self._load(step):
            images = self.model(step).generate(fixed.captions, fixed.noise)
            source = _source(step)
        else:
            images = self._run.workdir.generated_samples(step).images
            source = f"read from the sample grid of step {step}, whose checkpoint was deleted"
        rows = [
            (caption, [real, image])
            for caption, real, image in zip(fixed.captions, fixed.real, images, strict=True)
        ]
        return Panel(self._run, step, ["real", "generated"], rows, source)

    def _load(self, step: int) -> bool:
        """Loads a checkpoint; returns whether it is still there."""
        try:
            return step in self._run.checkpoints and bool(self.model(step))
        except CheckpointError:
            if step in self._run.workdir.checkpoint_steps():
                raise
            return False

    def user_captions(self, step: int, captions: Sequence[str], num: int, seed: int) -> Panel:
        """Fig. 9: `num` images of each of the user's captions, with noise from `seed`."""
        images = self.model(step).paint(captions, num, seed)
        rows = [
            (caption, list(map(np.asarray, row)))
            for caption, row in zip(captions, images, strict=True)
        ]
        titles = [f"noise {index + 1}" for index in range(num)]
        return Panel(self._run, step, titles, rows, _source(step))

    def masks(self, step: int, captions: Sequence[str], seed: int) -> Panel | None:
        """The fusion masks of each stage beside the image; None for a generator without masks."""
        noise = sample_noise(seed, 1, self._run.config.generator.noise_dim)
        images, masks = self.model(step).generate_with_masks(
            captions, np.repeat(noise, len(captions), 0)
        )
        if not masks:
            return None
        sizes = [4 * 2**stage for stage in range(len(masks))]
        rows = [
            (caption, [image, *map(mask_to_rgb, stages)])
            for caption, image, *stages in zip(captions, images, *masks, strict=True)
        ]
        titles = ["generated", *(f"{size} x {size}" for size in sizes)]
        return Panel(self._run, step, titles, rows, _source(step))


def _source(step: int) -> str:
    return f"generated from checkpoint {step}"
