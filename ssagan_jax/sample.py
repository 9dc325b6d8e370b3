"""Generates images from captions.

python -m ssagan_jax.sample --workdir=runs/birds --caption="a black bird"

Writes a sample grid and a PNG of every image; the same seed gives the same images. With
--interpolate, writes a GIF and a strip of the images between two captions or seeds.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from ssagan_jax.atomic_files import check_not_file, save_png, write_atomically
from ssagan_jax.checkpointing.best_checkpoint import parse_checkpoint
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.compilation_cache import enable_compilation_cache
from ssagan_jax.config.validation import check_seed
from ssagan_jax.data.tokenizer import check_caption
from ssagan_jax.errors import InputError, escape_terminal, exit_on_user_error
from ssagan_jax.inference.image_grid import draw_image_grid, encode_gif
from ssagan_jax.inference.model_loading import load_model
from ssagan_jax.workdir import Workdir, WorkdirError

_NUM = 8  # Images per caption, unless --num says otherwise.


def read_captions(captions: list[str], file: str | None) -> list[str]:
    """Captions from the command line, then those of a file with one caption per line.

    Raises:
      InputError: there is no caption, one is empty, too long or not Unicode, or the file cannot be
        read.
    """
    captions = list(captions)
    if file:
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
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
    for caption in captions:
        check_caption(caption)
    return captions


def save_images(
    images: Sequence[Sequence[Image.Image]], captions: Sequence[str], folder: Path
) -> Path:
    """Writes the images of each caption as single PNGs and a grid; returns the grid's path."""
    for index, (caption, row) in enumerate(zip(captions, images, strict=True)):
        words = _words_of(caption)
        for number, image in enumerate(row):
            save_png(folder / f"{index:03d}_{words}_{number:03d}.png", image)
    rows = [(text, list(map(np.asarray, row))) for text, row in zip(captions, images, strict=True)]
    save_png(folder / "grid.png", draw_image_grid(rows, ()))
    return folder / "grid.png"


def _words_of(caption: str) -> str:
    """The caption's words in the name of a file, at most 60 bytes."""
    words = "-".join(re.findall(r"\w+", caption.lower()))
    return words.encode()[:60].decode(errors="ignore")


def save_interpolation(
    images: Sequence[Image.Image], captions: Sequence[str], folder: Path
) -> tuple[Path, Path]:
    """Writes images as a GIF that loops, and side by side as a PNG; returns both paths."""
    name = "_to_".join(map(_words_of, captions))
    animation, strip = folder / f"interpolation_{name}.gif", folder / f"strip_{name}.png"
    write_atomically(animation, encode_gif(images))
    save_png(strip, draw_image_grid([(" to ".join(captions), list(map(np.asarray, images)))], ()))
    return animation, strip


def _default_folder(flags: argparse.Namespace, step: int) -> Path:
    """A folder for these flags; in the current one for a model that is not in a folder."""
    name = f"step_{step:07d}_seed_{flags.seed}"
    name += f"_to_{flags.to_seed}" * (flags.to_seed is not None)
    name += f"_truncation_{flags.truncation:g}" * (flags.truncation != 1)
    name += f"_best_of_{flags.best_of}" * (flags.best_of != 1)
    folder = Path(flags.workdir).expanduser().absolute()
    return (folder if folder.is_dir() else Path.cwd()) / "generated" / name


def _check_flags(flags: argparse.Namespace, captions: Sequence[str]) -> None:
    """Checks what can be checked before the model is loaded; raises InputError."""
    for name in ("num", "best_of"):
        value = getattr(flags, name)
        if value is not None and value < 1:
            raise InputError(f"--{name}={value}: must be 1 or more")
    if not 0 <= flags.truncation <= 1:
        raise InputError(f"--truncation={flags.truncation}: must be in [0, 1]")
    check_seed(flags.seed)
    if flags.to_seed is not None:
        check_seed(flags.to_seed, "--to_seed")
    if flags.interpolate is None:
        if flags.to_seed is not None:
            raise InputError(f"--to_seed={flags.to_seed}: needs --interpolate")
        return
    if flags.interpolate < 2:
        raise InputError(f"--interpolate={flags.interpolate}: must be 2 images or more")
    if flags.best_of != 1:
        raise InputError(f"--best_of={flags.best_of}: cannot be combined with --interpolate")
    if flags.num is not None:
        raise InputError(
            f"--num={flags.num}: cannot be combined with --interpolate; give the number of images "
            f"as --interpolate={max(flags.num, 2)}"
        )
    if len(captions) > 2 or (len(captions) == 1 and flags.to_seed is None):
        raise InputError(
            f"--interpolate={flags.interpolate}: needs two captions, or one and --to_seed; "
            f"there are {len(captions)}"
        )


def _is_generator_trained(source: str, step: int) -> bool:
    """Whether a checkpoint has a trained generator, as those without a schedule do."""
    try:
        return Workdir(source).schedule().is_generator_trained(step)
    except WorkdirError:
        return True


def main() -> None:
    """The command."""
    parser = command_parser("sample", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, help="work folder, model folder or name on the hub")
    add("--caption", action="append", default=[], help="a sentence; may be repeated")
    add("--captions_file", help="text file with one caption per line")
    add("--num", type=int, help=f"images per caption (default: {_NUM})")
    add("--seed", type=int, default=0, help="random seed of the noise (default: %(default)s)")
    about = "0 to 1; lower: more typical, less diverse (default: %(default)s)"
    add("--truncation", type=float, default=1.0, help=about)
    about = "noises per image, of which the best one is kept (default: %(default)s)"
    add("--best_of", type=int, default=1, help=about)
    add(
        "--interpolate",
        type=int,
        nargs="?",
        const=8,
        metavar="STEPS",
        help="images from the first caption to the second, or from --seed to --to_seed, "
        "as a GIF and a strip (default of STEPS: %(const)s)",
    )
    add("--to_seed", type=int, help="with --interpolate: seed of the last image's noise")
    add("--checkpoint", type=parse_checkpoint, help="a step or best (default: latest)")
    add("--output", help="output folder (default: WORKDIR/generated/step_STEP_seed_SEED)")
    with exit_on_user_error():
        flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        enable_compilation_cache()
        captions = read_captions(flags.caption, flags.captions_file)
        _check_flags(flags, captions)
        model = load_model(flags.workdir, flags.checkpoint)
        for caption in captions:
            if unknown := model.unknown_words(caption):
                listed = escape_terminal(", ".join(unknown))
                print(f"unknown words in {caption!r}: {listed}")
        folder = Path(flags.output or _default_folder(flags, model.step))
        check_not_file("--output", folder)
        if not _is_generator_trained(flags.workdir, model.step):
            print(f"step {model.step} is of stage 1, so its generator is untrained: this is noise")
        if flags.interpolate is not None:
            images = model.interpolate(
                *captions,
                steps=flags.interpolate,
                seed=flags.seed,
                to_seed=flags.to_seed,
                truncation=flags.truncation,
            )
            animation, strip = save_interpolation(images, captions, folder)
            print(f"{len(images)} images of step {model.step}; {animation}; strip: {strip}")
            return
        num = _NUM if flags.num is None else flags.num
        painted = model.paint(
            captions, num, flags.seed, truncation=flags.truncation, best_of=flags.best_of
        )
        path = save_images(painted, captions, folder)
        count = len(captions) * num
        print(f"{count} image{'s' * (count > 1)} of step {model.step}; grid: {path}")


if __name__ == "__main__":
    main()
