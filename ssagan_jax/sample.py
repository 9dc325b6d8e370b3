"""Paints captions: `python -m ssagan_jax.sample --workdir=runs/birds --caption="a black bird"`.

Writes one sheet and a PNG of every picture; the same seed paints the same pictures.
"""

import argparse
import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
from absl import logging
from PIL import Image

from ssagan_jax.config_validation import check_seed
from ssagan_jax.errors import InputError
from ssagan_jax.exit_codes import exit_on_user_error
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.inference.model import TrainedModel, load_model

_BATCH = 16


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """What to paint: `num` pictures of each caption, with noise from `seed`."""

    captions: list[str]
    num: int
    seed: int

    def noise(self, size: int) -> np.ndarray:
        """f32[num, size]; the same for every caption, so that columns of a sheet compare."""
        return np.asarray(jax.random.normal(jax.random.key(self.seed), (self.num, size)))


def read_captions(captions: list[str], file: str | None) -> list[str]:
    """Captions from the command line and, one a line, from a file.

    Raises:
      InputError: there is none, one is empty, or the file cannot be read.
    """
    captions = list(captions)
    if file:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--captions_file={file}: cannot be read ({error})") from error
        captions += [line for line in lines if line.strip()]
    if not captions:
        raise InputError(
            "no caption: give --caption='...' (as often as you like) or "
            "--captions_file=FILE with one caption a line"
        )
    if any(not caption.strip() for caption in captions):
        raise InputError("--caption='': is empty; write a sentence")
    return captions


def paint(trained: TrainedModel, request: SampleRequest) -> np.ndarray:
    """Pictures u8[captions, num, S, S, 3]."""
    noise = request.noise(trained.config.generator.noise_dim)
    captions = [caption for caption in request.captions for _ in noise]
    noise = np.tile(noise, (len(request.captions), 1))
    parts = []
    for start in range(0, len(captions), _BATCH):
        part = slice(start, start + _BATCH)
        # Filled up to one size, so that everything is compiled once.
        filled = np.resize(noise[part], (_BATCH, noise.shape[1]))
        texts = [captions[part][row % len(captions[part])] for row in range(_BATCH)]
        images, _ = trained.paint(texts, filled)
        parts.append(images[: len(captions[part])])
    images = np.concatenate(parts)
    return images.reshape(len(request.captions), request.num, *images.shape[1:])


def save(images: np.ndarray, request: SampleRequest, folder: Path) -> Path:
    """Writes single PNGs and a sheet of u8[captions, num, S, S, 3]; returns the sheet's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (caption, row) in enumerate(zip(request.captions, images, strict=True)):
        words = "-".join(re.findall(r"[a-z0-9]+", caption.lower()))[:60]
        for number, image in enumerate(row):
            Image.fromarray(image).save(folder / f"{index:03d}_{words}_{number:03d}.png")
    path = folder / "sheet.png"
    draw_image_grid(list(zip(request.captions, images, strict=True)), ()).save(path)
    return path


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ssagan_jax.sample", description=__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a trained model")
    parser.add_argument("--caption", action="append", default=[], help="may be given again")
    parser.add_argument("--captions_file", help="text file with one caption a line")
    parser.add_argument("--num", type=int, default=8, help="pictures of each caption")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--checkpoint", type=int, help="step of the checkpoint; default: latest")
    parser.add_argument("--output", help="folder; default: WORKDIR/painted/STEP_SEED")
    flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        if flags.num < 1:
            raise InputError(f"--num={flags.num}: must be 1 or more")
        check_seed(flags.seed)
        request = SampleRequest(
            read_captions(flags.caption, flags.captions_file), flags.num, flags.seed
        )
        trained = load_model(flags.workdir, flags.checkpoint)
        trained.workdir.check_generator()
        for caption in request.captions:
            if unknown := trained.tokenizer.unknown_words(caption):
                print(f"unknown words in {caption!r}: {', '.join(unknown)}")
        step = int(trained.state.step)
        folder = trained.workdir.path / "painted" / f"step_{step:07d}_seed_{flags.seed}"
        path = save(paint(trained, request), request, Path(flags.output or folder))
    print(f"{len(request.captions) * flags.num} pictures of step {step}; sheet: {path}")


if __name__ == "__main__":
    main()
