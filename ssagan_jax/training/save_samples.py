"""Sample grids: the same captions and noise, generated again as training goes on."""

import numpy as np
from clu.metric_writers import MetricWriter
from ml_collections import ConfigDict

from ssagan_jax.atomic_files import save_png
from ssagan_jax.data.pipeline import CaptionedImages, evaluation_batches
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.fixed_samples import FixedSamples, GeneratedSamples
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.inference.sampler import sample_noise
from ssagan_jax.workdir import Workdir


def choose_fixed_samples(
    config: ConfigDict, dataset: CaptionedImages, tokenizer: Tokenizer
) -> FixedSamples:
    """Chooses `config.log.sample_grid_rows` images, spread over a data set, and draws noise."""
    rows = min(config.log.sample_grid_rows, len(dataset))
    names = sorted((dataset.metadata(index)["name"], index) for index in range(len(dataset)))
    # A step past an even spread: in data of a regular order all could be of one kind.
    chosen = [names[(len(names) // rows * row + row) % len(names)][1] for row in range(rows)]
    ((batch, records),) = evaluation_batches(
        [dataset[index] for index in chosen],
        tokenizer,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        batch_size=rows,
    )
    captions = [record["captions"][0] for record in records]
    noise = sample_noise(config.seed, rows, config.generator.noise_dim)
    return FixedSamples(captions, noise, batch["image"])


def write_sample_grid(
    workdir: Workdir,
    writer: MetricWriter,
    step: int,
    fixed: FixedSamples,
    images: np.ndarray,
    masks: list[np.ndarray],
) -> None:
    """Writes the images of one step as PNG, as .npz and for TensorBoard.

    Args:
      workdir: of the run.
      writer: of TensorBoard's events.
      step: at which they were generated.
      fixed: captions and real images, R rows.
      images: generated, u8[R, S, S, 3].
      masks: fusion masks f32[R, S, S, 1] in [0, 1], coarse to fine; empty if there are none.
    """
    last = np.round(masks[-1][..., 0] * 255) if masks else np.zeros(images.shape[:3])
    samples = GeneratedSamples(images, last.astype(np.uint8))
    workdir.write_generated_samples(step, samples)
    gray = np.repeat(samples.mask[..., None], 3, axis=-1)
    columns = zip(fixed.real, images, gray, strict=True)
    rows = list(zip(fixed.captions, columns, strict=True))
    grid = draw_image_grid(rows, ("real", "generated", "mask"))
    save_png(workdir.sample_grid(step), grid)
    writer.write_images(step, {"sample_grid": np.asarray(grid)[None]})
    writer.write_images(step, {f"masks/{index}": mask for index, mask in enumerate(masks)})
    writer.write_texts(step, {"captions": "\n\n".join(fixed.captions)})
