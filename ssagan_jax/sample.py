"""Generates images from captions.

python -m ssagan_jax.sample --workdir=runs/birds --caption="a black bird"

Writes a sample grid and a PNG of every image; the same seed gives the same images.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from ssagan_jax.atomic_files import save_png
from ssagan_jax.checkpointing.best_checkpoint import parse_checkpoint
from ssagan_jax.config_validation import check_seed
from ssagan_jax.errors import InputError, exit_on_user_error
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.inference.model_loading import load_model


def read_captions(captions: list[str], file: str | None) -> list[str]:
    """Captions from the command line, then those of a file with one caption per line.

    Raises:
      InputError: there is no caption, one is empty, or the file cannot be read.
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
            "no caption: give --caption='...' (may be repeated) or "
            "--captions_file=FILE with one caption per line"
        )
    if any(not caption.strip() for caption in captions):
        raise InputError("--caption='': is empty; write a sentence")
    return captions


def save_images(images: np.ndarray, captions: Sequence[str], folder: Path) -> Path:
    """Writes u8[captions, num, S, S, 3] as single PNGs and a grid; returns the grid's path."""
    for index, (caption, row) in enumerate(zip(captions, images, strict=True)):
        words = "-".join(re.findall(r"[a-z0-9]+", caption.lower()))[:60]
        for number, image in enumerate(row):
            path = folder / f"{index:03d}_{words}_{number:03d}.png"
            save_png(path, Image.fromarray(image))
    path = folder / "grid.png"
    save_png(path, draw_image_grid(list(zip(captions, images, strict=True)), ()))
    return path


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ssagan_jax.sample", description=__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a trained model")
    parser.add_argument(
        "--caption", action="append", default=[], help="a sentence; may be repeated"
    )
    parser.add_argument("--captions_file", help="text file with one caption per line")
    parser.add_argument("--num", type=int, default=8, help="images per caption")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the noise")
    parser.add_argument(
        "--checkpoint", type=parse_checkpoint, help="a step or best; default: latest"
    )
    parser.add_argument("--output", help="output folder; default: WORKDIR/generated/STEP_SEED")
    flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        if flags.num < 1:
            raise InputError(f"--num={flags.num}: must be 1 or more")
        check_seed(flags.seed)
        captions = read_captions(flags.caption, flags.captions_file)
        trained = load_model(flags.workdir, flags.checkpoint)
        for caption in captions:
            if unknown := trained.tokenizer.unknown_words(caption):
                print(f"unknown words in {caption!r}: {', '.join(unknown)}")
        name = f"step_{trained.step:07d}_seed_{flags.seed}"
        folder = Path(flags.workdir).expanduser().absolute() / "generated" / name
        images = trained.sample(captions, flags.num, flags.seed)
        path = save_images(images, captions, Path(flags.output or folder))
    count = len(captions) * flags.num
    print(f"{count} image{'s' * (count > 1)} of step {trained.step}; grid: {path}")


if __name__ == "__main__":
    main()
