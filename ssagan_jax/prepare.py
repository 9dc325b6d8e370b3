"""Prepares your own captioned pictures: `python -m ssagan_jax.prepare --source=DIR --name=my_cars`.

Reads all of them once, reports what it finds, and writes the data set that
`python -m ssagan_jax.main --config=small_data:my_cars` trains on.
"""

import argparse
import itertools
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

from ssagan_jax.atomic_files import check_utf8
from ssagan_jax.config import default_config
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.validation import CONSTRAINTS
from ssagan_jax.data import captions
from ssagan_jax.data.datasets import BUILT_IN
from ssagan_jax.data.engines.ray_cluster import ENGINES, RayCluster, check_engine, open_engine
from ssagan_jax.data.formats.folder_names import unwrap_splits
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.registry import FORMATS, STANFORD_CARS, format_of
from ssagan_jax.data.formats.tfds_dataset import read_templates
from ssagan_jax.data.images.resizing import crop_and_resize
from ssagan_jax.data.ingest.inspect_image import load_item
from ssagan_jax.data.ingest.scan import scan_dataset
from ssagan_jax.data.ingest.scan_report import ScanReport, report_folder
from ssagan_jax.data.ingest.scanned_set import (
    JOURNAL,
    PrepareRequest,
    work_folder,
    write_scanned_set,
)
from ssagan_jax.data.ingest.train_validation_split import assign_splits, check_splits
from ssagan_jax.data.ingest.training_command import training_command
from ssagan_jax.data.ordered_map import OrderedMap, ordered_map
from ssagan_jax.data.prepared.prepared_sets import set_names, sets_folder
from ssagan_jax.data.prepared.set_writer import Files, write_files
from ssagan_jax.data.stanford_cars.paper_layout import write_paper_layout
from ssagan_jax.errors import InputError, escape_terminal, exit_on_user_error
from ssagan_jax.inference.image_grid import draw_image_grid
from ssagan_jax.progress import Progress

_THUMBNAIL, _COLUMNS = 128, 3


def prepare(
    request: PrepareRequest,
    *,
    skip_bad: bool,
    dry_run: bool,
    report_dir: str,
    engine: str = "local",
) -> ScanReport:
    """Scans a source, prints the report, and unless `dry_run` writes the prepared set.

    The report's files are written to `report_dir` too, if that is not empty. After an interruption
    the next call continues. The set has the same bits on every `engine`.

    Raises:
      InputError: the source cannot be read, has entries that cannot be used (without `skip_bad`)
        or too few pictures, or the engine cannot be reached; no set is written then.
    """
    if dry_run:
        with open_engine(engine, request.source) as cluster:
            return _scan_and_report(request, report_dir, cluster)[0]
    with open_engine(engine, request.source) as cluster, work_folder(request) as work:
        if cluster:
            cluster.require(work)
        report, files = _scan_and_report(request, report_dir, cluster, work / JOURNAL)
        check_report(request, report, skip_bad)
        write_scanned_set(request, report.scan.entries, report.splits, files, work, cluster)
    return report


def _scan_and_report(
    request: PrepareRequest,
    report_dir: str,
    cluster: RayCluster | None,
    journal: Path | None = None,
) -> tuple[ScanReport, Files]:
    report = scan_source(request, journal, cluster.map if cluster else ordered_map)
    print(report.text(), flush=True)
    files = _report_files(report)
    if report_dir:
        write_files(files, Path(report_dir))
        print(f"report: {', '.join(str(Path(report_dir, name)) for name in files)}")
    return report, files


def check_report(request: PrepareRequest, report: ScanReport, skip_bad: bool) -> None:
    """Raises InputError if a set cannot be written: too few pictures, or entries to be skipped."""
    if (errors := len(report.scan.errors)) and not skip_bad:
        raise InputError(
            f"{errors} {'entry' if errors == 1 else 'entries'} of {request.source} cannot be used; "
            "fix the data or skip them with --skip_bad. --report=DIR writes the full list to a file"
        )
    check_splits(report.scan.entries, report.splits)


def scan_source(
    request: PrepareRequest, journal: Path | None = None, run: OrderedMap = ordered_map
) -> ScanReport:
    """Scans a source, from where a scan with this journal ended, and chooses what to hold out."""
    items = Progress(request.items(), "scanning", unit=" pictures", dynamic_ncols=True)
    max_words = default_config().data.max_words
    scan = scan_dataset(
        items, load_size=request.load_size, max_words=max_words, journal=journal, run=run
    )
    splits = assign_splits(scan.entries, request.val, request.seed)
    by = ", sentences from names of folders" if request.layout == "classes" else ""
    title = f"{request.name}: {request.source} ({request.layout}{by})"
    sizes = splits.count("train"), splits.count("validation")
    return ScanReport(title, scan, splits, training_command(request, *sizes))


def contact_sheet(items: Sequence[Item]) -> Image.Image:
    """Thumbnails, cropped to their boxes, with names and first sentences."""
    rows = []
    for item in items:
        thumbnail = crop_and_resize(load_item(item), item.box, _THUMBNAIL)
        # Pillow cannot pad what would be less than a pixel high.
        if max(thumbnail.size) > _THUMBNAIL * min(thumbnail.size) / 2:
            thumbnail = ImageOps.fit(thumbnail, (_THUMBNAIL, _THUMBNAIL))
        thumbnail = ImageOps.pad(thumbnail, (_THUMBNAIL, _THUMBNAIL), color="white")
        text = " / ".join(captions.usable(item.captions)[:2])
        rows.append((f"{Path(item.name).name}: {text}", [np.asarray(thumbnail)]))
    height = -(-len(rows) // _COLUMNS)
    starts = range(0, len(rows), height)
    columns = [draw_image_grid(rows[start : start + height], ()) for start in starts]
    canvas = Image.new("RGB", (sum(c.width for c in columns), columns[0].height), "white")
    for index, column in enumerate(columns):
        canvas.paste(column, (index * columns[0].width, 0))
    return canvas


def _report_files(report: ScanReport) -> Files:
    files: dict[str, str | Image.Image] = {
        "report.md": report.markdown(),
        "report.json": json.dumps(report.json(), indent=1, ensure_ascii=False) + "\n",
    }
    if report.scan.samples:
        files["contact_sheet.png"] = contact_sheet(report.scan.samples)
    return files


def _check_flags(flags: argparse.Namespace, folder: Path) -> None:
    """Raises InputError for values that no source allows, and for a set that exists already."""
    check_utf8("--source", flags.source)
    check_utf8("--prepared_dir", folder)
    for flag, key in (("name", "data.name"), ("image_size", "data.image_size"), ("seed", "seed")):
        is_valid, allowed = CONSTRAINTS[key]
        if not is_valid(getattr(flags, flag)):
            raise InputError(f"--{flag}={getattr(flags, flag)}: must be {allowed}")
    if flags.name in BUILT_IN:
        raise InputError(f"--name={flags.name}: is built in; choose another name")
    check_engine(flags.engine)
    if not 0 < flags.val < 1:
        raise InputError(f"--val={flags.val}: must be above 0 and below 1, a fraction of the data")
    if not (flags.overwrite or flags.dry_run) and flags.name in set_names(flags.prepared_dir):
        raise InputError(
            f"--name={flags.name}: is prepared already, in {folder}; choose another name, "
            "or replace it with --overwrite"
        )


def _make_request(flags: argparse.Namespace, source: str, layout: str) -> PrepareRequest:
    """The request that the flags ask for, with the command that repeats it."""
    folder = flags.prepared_dir
    prepared_dir = os.path.abspath(os.path.expanduser(folder)) if folder else ""
    words = ["python", "-m", "ssagan_jax.prepare", f"--source={source}", f"--name={flags.name}"]
    words += [f"--format={layout}", f"--val={flags.val}", f"--image_size={flags.image_size}"]
    words += [f"--seed={flags.seed}", *(["--skip_bad"] if flags.skip_bad else [])]
    words += [f"--prepared_dir={prepared_dir}"] if prepared_dir else []
    options = ("templates", "caption_column", "image_column")
    words += [f"--{name}={value}" for name in options if (value := getattr(flags, name))]
    return PrepareRequest(
        name=flags.name,
        source=source,
        layout=layout,
        image_size=flags.image_size,
        val=flags.val,
        seed=flags.seed,
        prepared_dir=prepared_dir,
        command=shlex.join(words),
        templates=read_templates(Path(flags.templates)) if flags.templates else (),
        caption_columns=tuple(filter(None, flags.caption_column.split(","))),
        image_column=flags.image_column,
    )


def _choose_stanford_cars(source: str, flags: argparse.Namespace) -> str:
    """Chooses cars from Kaggle's folder and writes them in the paper's layout; returns its path."""
    makes = int(flags.makes) if flags.makes.isdecimal() else flags.makes.split(",")
    counts = flags.per_model.split("+")
    if len(counts) != 2 or not all(map(str.isdecimal, counts)):
        raise InputError(
            f"--per_model={flags.per_model}: must be training+validation pictures, like 20+5"
        )
    target = Path(flags.cars_dir or flags.name).absolute()
    train, validation = map(int, counts)
    cars, unreadable = write_paper_layout(
        Path(source),
        target,
        makes=makes,
        models=flags.models,
        train=train,
        validation=validation,
        seed=flags.seed,
    )
    for message in unreadable:
        print(f"skipped {escape_terminal(message)}")
    for make, models in itertools.groupby(cars, lambda car: car.make):
        print(escape_terminal(f"{make}: {', '.join(car.name for car in models)}"))
    if not flags.dry_run:
        print(
            f"{train * len(cars)} + {validation * len(cars)} pictures and their sentences are in "
            f"{target}; to change sentences, edit {target}/*/captions/*.txt, then prepare again "
            f"with --source={target} --overwrite"
        )
    return str(target)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("prepare", __doc__)
    add = parser.add_argument
    add("--source", required=True, help="folder, shards, or name of a TFDS or hub set; see docs")
    add("--name", required=True, help="name of the data set: letters, digits, _ and -")
    add("--format", default="auto", help=f"auto, or one of {', '.join((*FORMATS, STANFORD_CARS))}")
    add("--val", type=float, default=0.2, help="fraction to hold out if the source holds out none")
    add("--image_size", type=int, default=256, help="largest size that a model will train on")
    add("--seed", type=int, default=0, help="seed of the split")
    add("--skip_bad", action="store_true", help="skip entries that cannot be used")
    add("--dry_run", action="store_true", help="report only")
    add("--report", default="", help="folder for the report; with --dry_run default: here")
    add("--overwrite", action="store_true", help="replace a set of the same name")
    add("--prepared_dir", default="", help="folder of prepared sets; default: TFDS's folder")
    add("--templates", default="", help="sets of classes: file of sentences with {label}")
    add("--caption_column", default="", help="huggingface, webdataset: columns of sentences: a,b")
    add("--image_column", default="", help="huggingface: column of the pictures")
    add("--engine", default="local", help=f"where pictures are read and written: {ENGINES}")
    add("--makes", default="8", help="stanford_cars: number of makes, or their names: Audi,BMW")
    add("--models", type=int, default=4, help="stanford_cars: models of each make")
    add("--per_model", default="20+5", help="stanford_cars: training+validation pictures of each")
    add("--cars_dir", default="", help="stanford_cars: new folder for the chosen; default: NAME")
    return parser


def main() -> None:
    """Runs the command."""
    with exit_on_user_error():
        flags = _parser().parse_args()
    logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", module="PIL")  # The report covers what Pillow warns of.
    with exit_on_user_error(), tempfile.TemporaryDirectory() as scratch:
        folder = sets_folder(flags.prepared_dir) / flags.name
        _check_flags(flags, folder)
        source = os.path.expanduser(flags.source)
        # A pattern of shards is a path too.
        source = os.path.abspath(source) if os.path.exists(source) or "{" in source else source
        source = unwrap_splits(source)
        layout = format_of(Path(source), flags.format)
        report_dir = report_folder(flags.report, flags.dry_run, Path(source))
        if layout == STANFORD_CARS:
            flags.cars_dir = f"{scratch}/cars" if flags.dry_run else flags.cars_dir
            source, layout = _choose_stanford_cars(source, flags), "paper"
        request = _make_request(flags, source, layout)
        report = prepare(
            request,
            skip_bad=flags.skip_bad,
            dry_run=flags.dry_run,
            report_dir=report_dir,
            engine=flags.engine,
        )
        if not flags.dry_run:
            print(f"prepared {folder}; see contact_sheet.png and report.md there. To train:")
        else:
            print(f"nothing was written to {folder}")
            try:
                check_report(request, report, flags.skip_bad)
            except InputError as error:
                print(escape_terminal(f"without --dry_run, this command would fail: {error}"))
                return
            print("run the same command without --dry_run, then train with:")
        print(f"  {report.command}")


if __name__ == "__main__":
    main()
