"""Fig. 5 to 9 of the paper: real and generated pictures, and the fusion masks stage by stage."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

from ssagan_jax.errors import InputError
from ssagan_jax.inference.image_grid import cut, draw_image_grid, mask_to_rgb
from ssagan_jax.inference.model import TrainedModel, load_model
from ssagan_jax.inference.sampler import sample_grid_noise
from ssagan_jax.reporting.runs import ReportedRun

# One size, so that a run's networks are compiled once; a run's sheets have as many rows.
_BATCH = 8
_REAL, _GENERATED = 0, 1


@dataclasses.dataclass(frozen=True)
class Panel:
    """Captions with a run's pictures of them at one step.

    Attributes:
      source: where the generated pictures come from, in words.
      rows: caption, then pictures u8[S, S, 3] under `heads`.
    """

    run: ReportedRun
    step: int
    heads: list[str]
    rows: list[tuple[str, list[np.ndarray]]]
    source: str

    def sheet(self) -> Image.Image:
        """All of it as one picture."""
        return draw_image_grid(self.rows, self.heads)


class Gallery:
    """Paints a run's checkpoints; the last one used stays open."""

    def __init__(self, run: ReportedRun) -> None:
        self._run = run
        self._trained: TrainedModel | None = None

    def trained(self, step: int) -> TrainedModel:
        """The model of a checkpoint; raises what `open_trained` does."""
        last = self._trained
        if last is None or int(last.state.step) != step:
            trained = load_model(str(self._run.workdir.path), step)
            # What is compiled for one checkpoint serves all.
            self._trained = dataclasses.replace(trained, sampler=last.sampler) if last else trained
        return self._trained

    def paint(
        self, step: int, captions: Sequence[str], noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Pictures u8[B, S, S, 3] and masks f32[B, S, S, 1] of captions and noise f32[B, N]."""
        trained = self.trained(step)
        parts = []
        for start in range(0, len(captions), _BATCH):
            indices = [index % len(captions) for index in range(start, start + _BATCH)]
            images, masks = trained.paint([captions[index] for index in indices], noise[indices])
            count = min(_BATCH, len(captions) - start)
            parts.append((images[:count], [mask[:count] for mask in masks]))
        images, masks = zip(*parts, strict=True)
        return np.concatenate(images), [np.concatenate(each) for each in zip(*masks, strict=True)]

    def compared(self, step: int) -> Panel | None:
        """Fig. 5 to 8: caption, real and generated picture of the run's sample captions.

        Painted anew from the step's checkpoint, with the noise of the run's sheets, where it is
        kept, and else cut from the step's sheet. None where the run has left no sheet.
        """
        run = self._run
        captions = run.captions
        if not run.sheets or not captions:
            return None
        reals = self._cut(run.sheets[-1], len(captions), _REAL)
        if step in run.checkpoints:
            noise = sample_grid_noise(run.config, len(captions))
            painted, _ = self.paint(step, captions, noise)
            source = f"painted from checkpoint {step}"
        else:
            painted = self._cut(step, len(captions), _GENERATED)
            source = f"cut from the sample sheet of step {step}, which has no checkpoint any more"
        rows = [
            (caption, list(pair)) for caption, *pair in zip(captions, reals, painted, strict=True)
        ]
        return Panel(run, step, ["real", "generated"], rows, source)

    def painted(self, step: int, captions: Sequence[str], num: int, seed: int) -> Panel:
        """Fig. 9: captions of the user's own, `num` pictures of each with noise from `seed`."""
        size = self._run.config.generator.noise_dim
        noise = np.asarray(jax.random.normal(jax.random.key(seed), (num, size)))
        texts = [caption for caption in captions for _ in range(num)]
        images, _ = self.paint(step, texts, np.tile(noise, (len(captions), 1)))
        shown = images.reshape(len(captions), num, *images.shape[1:])
        rows = [(caption, list(row)) for caption, row in zip(captions, shown, strict=True)]
        heads = [f"noise {index + 1}" for index in range(num)]
        return Panel(self._run, step, heads, rows, f"painted from checkpoint {step}")

    def masks(self, step: int, captions: Sequence[str], seed: int) -> Panel | None:
        """The fusion masks of each stage beside the picture; None for a generator without masks."""
        size = self._run.config.generator.noise_dim
        noise = np.asarray(jax.random.normal(jax.random.key(seed), (1, size)))
        images, masks = self.paint(step, captions, np.tile(noise, (len(captions), 1)))
        if not masks:
            return None
        heads = ["picture", *(f"{4 * 2**stage} x {4 * 2**stage}" for stage in range(len(masks)))]
        rows = [
            (caption, [image, *map(mask_to_rgb, stages)])
            for caption, image, *stages in zip(captions, images, *masks, strict=True)
        ]
        return Panel(self._run, step, heads, rows, f"painted from checkpoint {step}")

    def _cut(self, step: int, rows: int, column: int) -> list[np.ndarray]:
        path = self._run.workdir.sample_grid(step)
        try:
            with Image.open(path) as picture:
                return cut(picture.convert("RGB"), self._run.config.data.image_size, rows, column)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error}); remove it") from error
