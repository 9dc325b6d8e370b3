"""Prepares pictures of your own: `python -m ssagan_jax.prepare --source=DIR --name=my_cars`.

Goes over everything once, reports, and writes the data set that `--config=configs/bert.py:my_cars`
trains on.
"""

import argparse
import json
import os
import shlex
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image, ImageOps
from tqdm import tqdm

from ssagan_jax.config import default_config
from ssagan_jax.config_validation import CONSTRAINTS
from ssagan_jax.data import captions
from ssagan_jax.data.datasets import SOURCES
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.registry import FORMATS, STANFORD_CARS, format_of
from ssagan_jax.data.formats.tfds_dataset import read_templates
from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.ingest import prepared_set_writer
from ssagan_jax.data.ingest.inspect_image import crop_and_resize, load_item
from ssagan_jax.data.ingest.prepared_set_writer import PrepareRequest
from ssagan_jax.data.ingest.scan import scan_dataset
from ssagan_jax.data.ingest.scan_report import ScanReport
from ssagan_jax.data.ingest.train_validation_split import split
from ssagan_jax.data.prepared_sets import set_names, sets_folder
from ssagan_jax.data.stanford_cars.paper_layout import write_paper_layout
from ssagan_jax.errors import InputError
from ssagan_jax.exit_codes import exit_on_user_error
from ssagan_jax.inference.image_grid import draw_image_grid

_THUMBNAIL = 128
_COLUMNS = 3


def prepare(
    request: PrepareRequest, *, skip_bad: bool, dry_run: bool, report_dir: str
) -> ScanReport:
    """Surveys a source and, unless that shows a fault or is all, writes it as a prepared set.

    Args:
      request: what to prepare.
      skip_bad: leave out what cannot be used, instead of refusing.
      dry_run: stop after the report.
      report_dir: a folder for the report's files beside the one with the data; empty for none.

    Raises:
      InputError: the source has faults that lose data, or cannot be read; no set is written then.
    """
    report, no_split = _surveyed(request)
    print(report.text(), flush=True)
    files = _files(report)
    if report_dir:
        _save(files, Path(report_dir))
    if dry_run:
        return report
    if (faults := report.survey.faults) and not skip_bad:
        raise InputError(
            f"{len(faults)} entries of {request.source} would be lost; mend them, or leave "
            "them out with --skip_bad. --report=DIR lists all of them in a file"
        )
    if no_split:
        raise no_split
    prepared_set_writer.write(request, report.survey.entries, report.sides, files)
    return report


def _surveyed(request: PrepareRequest) -> tuple[ScanReport, DataError | None]:
    """The report on a source, and why it cannot be split, if so."""
    items = tqdm(request.items(), "looking at", unit=" pictures", dynamic_ncols=True)
    max_words = default_config().data.max_words
    found = scan_dataset(items, load_size=request.load_size, max_words=max_words)
    no_split = None
    try:
        sides = split(found.entries, request.val, request.seed)
    except DataError as error:
        sides, no_split = ["train"] * len(found.entries), error
    title = f"{request.name}: {request.source} ({request.layout})"
    return ScanReport(
        title, found, sides, training_command(request, sides.count("train"))
    ), no_split


def training_command(request: PrepareRequest, pictures: int) -> str:
    """The command that trains the paper's BERT model on a prepared set of so many pictures."""
    config = default_config()
    words = ["python", "-m", "ssagan_jax.main", f"--config=configs/bert.py:{request.name}"]
    if request.image_size != config.data.image_size:
        words.append(f"--config.data.image_size={request.image_size}")
    if request.prepared_dir:
        words.append(f"--config.data.prepared_dir={request.prepared_dir}")
    if pictures < config.train.batch_size:
        words.append(f"--config.train.batch_size={pictures}")
    return shlex.join(words)


def contact_sheet(items: Sequence[Item]) -> Image.Image:
    """Pictures, cut out around their boxes, with their names and first sentences."""
    rows = []
    for item in items:
        picture = crop_and_resize(load_item(item), item.box, _THUMBNAIL)
        picture = ImageOps.pad(picture, (_THUMBNAIL, _THUMBNAIL), color="white")
        text = " / ".join(captions.usable(item.captions)[:2])
        rows.append((f"{Path(item.name).name}: {text}", [np.asarray(picture)]))
    height = -(-len(rows) // _COLUMNS)
    parts = [draw_image_grid(rows[at : at + height], ()) for at in range(0, len(rows), height)]
    canvas = Image.new("RGB", (sum(part.width for part in parts), parts[0].height), "white")
    for column, part in enumerate(parts):
        canvas.paste(part, (column * parts[0].width, 0))
    return canvas


def _files(report: ScanReport) -> dict[str, str | Image.Image]:
    files: dict[str, str | Image.Image] = {
        "report.md": report.markdown(),
        "report.json": json.dumps(report.json(), indent=1, ensure_ascii=False) + "\n",
    }
    if report.survey.samples:
        files["contact_sheet.png"] = contact_sheet(report.survey.samples)
    return files


def _save(files: dict[str, str | Image.Image], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    prepared_set_writer.write_files(files, folder)
    print(f"report: {', '.join(str(folder / name) for name in files)}")


def _check(flags: argparse.Namespace) -> None:
    """Refuses what no request can have; raises InputError."""
    for flag, key in (("name", "data.name"), ("image_size", "data.image_size"), ("seed", "seed")):
        holds, allowed = CONSTRAINTS[key]
        if not holds(getattr(flags, flag)):
            raise InputError(f"--{flag}={getattr(flags, flag)}: must be {allowed}")
    if flags.name in SOURCES:
        raise InputError(f"--name={flags.name}: is built in; choose another")
    if not 0 < flags.val < 1:
        raise InputError(f"--val={flags.val}: must be above 0 and below 1, a share of the pictures")


def _requested(flags: argparse.Namespace, source: str, layout: str) -> PrepareRequest:
    """The request behind the command line."""
    place = os.path.abspath(os.path.expanduser(flags.prepared_dir)) if flags.prepared_dir else ""
    words = ["python", "-m", "ssagan_jax.prepare", f"--source={source}", f"--name={flags.name}"]
    words += [f"--format={layout}", f"--val={flags.val}", f"--image_size={flags.image_size}"]
    words += [f"--seed={flags.seed}", *(["--skip_bad"] if flags.skip_bad else [])]
    words += [f"--prepared_dir={place}"] if place else []
    words += [f"--templates={flags.templates}"] if flags.templates else []
    return PrepareRequest(
        name=flags.name,
        source=source,
        layout=layout,
        image_size=flags.image_size,
        val=flags.val,
        seed=flags.seed,
        prepared_dir=place,
        command=shlex.join(words),
        templates=read_templates(Path(flags.templates)) if flags.templates else (),
    )


def _cars_laid_out(source: str, flags: argparse.Namespace) -> str:
    """The paper's layout, written from Kaggle's cars; returns its folder."""
    makes = int(flags.makes) if flags.makes.isdecimal() else flags.makes.split(",")
    counts = flags.per_model.split("+")
    if len(counts) != 2 or not all(map(str.isdecimal, counts)):
        raise InputError(f"--per_model={flags.per_model}: write training+validation, like 20+5")
    target = Path(flags.cars_dir or flags.name).absolute()
    train, validation = map(int, counts)
    cars = write_paper_layout(
        Path(source),
        target,
        makes=makes,
        models=flags.models,
        train=train,
        validation=validation,
        seed=flags.seed,
    )
    for message in cars.unreadable:
        print(f"passed over {message}")
    for make, models in cars.classes.items():
        print(f"{make}: {', '.join(models)}")
    print(
        f"wrote {cars.train} + {cars.validation} pictures and their sentences to {target}; to "
        f"change sentences, edit {target}/*/captions/*.txt, then prepare again with "
        f"--source={target} --overwrite"
    )
    return str(target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ssagan_jax.prepare", description=__doc__)
    add = parser.add_argument
    add("--source", required=True, help="folder of the pictures and their sentences")
    add("--name", required=True, help="of the data set: letters, digits, _ and -")
    add("--format", default="auto", help=f"auto, or one of {', '.join((*FORMATS, STANFORD_CARS))}")
    add("--val", type=float, default=0.2, help="share held out, where the source holds none out")
    add("--image_size", type=int, default=256, help="largest size that a model will train on")
    add("--seed", type=int, default=0, help="of the split")
    add("--skip_bad", action="store_true", help="leave out what cannot be used")
    add("--dry_run", action="store_true", help="only report")
    add("--report", default="", help="folder for the report; with --dry_run: here by default")
    add("--overwrite", action="store_true", help="replace a set of the same name")
    add("--prepared_dir", default="", help="where sets are kept; default: TFDS's folder")
    add("--templates", default="", help="tfds: file of sentences with {label}, one a line")
    add("--makes", default="8", help="stanford_cars: how many makes, or which: Audi,BMW")
    add("--models", type=int, default=4, help="stanford_cars: models of each make")
    add("--per_model", default="20+5", help="stanford_cars: training+validation pictures of each")
    add("--cars_dir", default="", help="stanford_cars: new folder for the choice; default: NAME")
    return parser


def main() -> None:
    """The command."""
    flags = _parser().parse_args()
    logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", module="PIL")  # What Pillow finds odd the report tells.
    with exit_on_user_error(), tempfile.TemporaryDirectory() as scratch:
        _check(flags)
        folder = sets_folder(flags.prepared_dir) / flags.name
        there = flags.name in set_names(flags.prepared_dir)
        if there and not flags.overwrite and not flags.dry_run:
            raise InputError(
                f"--name={flags.name}: is prepared already, in {folder}; choose another name, "
                "or replace it with --overwrite"
            )
        source = os.path.expanduser(flags.source)
        source = os.path.abspath(source) if os.path.exists(source) else source
        layout = format_of(Path(source), flags.format)
        if layout == STANFORD_CARS:
            flags.cars_dir = f"{scratch}/cars" if flags.dry_run else flags.cars_dir
            source, layout = _cars_laid_out(source, flags), "paper"
        request = _requested(flags, source, layout)
        report = prepare(
            request,
            skip_bad=flags.skip_bad,
            dry_run=flags.dry_run,
            report_dir=flags.report or ("." if flags.dry_run else ""),
        )
    if flags.dry_run:
        print(f"nothing was written to {folder}; without --dry_run this would train on it:")
    else:
        print(f"prepared {folder}; look at contact_sheet.png and report.md there. To train:")
    print(f"  {report.command}")


if __name__ == "__main__":
    main()
