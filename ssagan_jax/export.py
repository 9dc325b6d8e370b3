"""Exports a trained model: a model folder to give away, with a model card.

python -m ssagan_jax.export --workdir=runs/my_cars --output=my_cars --license=cc-by-4.0

`load_model` opens the folder. It holds no optimizer and no pickle. Images have the range (-1, 1) in
ONNX and StableHLO files, whose batches may have any size.
"""

import argparse
from pathlib import Path

from absl import logging

from ssagan_jax.atomic_files import atomic_folder, check_new_folder, save_png
from ssagan_jax.checkpointing.best_checkpoint import parse_checkpoint
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.compilation_cache import enable_compilation_cache
from ssagan_jax.errors import InputError, exit_on_user_error
from ssagan_jax.exporting import onnx_model, stablehlo_model, web
from ssagan_jax.exporting.model_card import check_license, draw_samples, write_model_card
from ssagan_jax.inference.hub import check_upload, upload_model
from ssagan_jax.inference.model_folder import CARD, SAMPLES, write_model_folder
from ssagan_jax.inference.model_loading import load_model
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.workdir import Workdir


def export(flags: argparse.Namespace) -> None:
    """Writes the folder, all of it or nothing, and uploads it if asked to.

    Raises:
      InputError: the work folder holds no trained generator, or a flag cannot be used.
    """
    target = check_new_folder("--output", flags.output)
    check_license(flags.license)
    if flags.push_to:
        check_upload(flags.push_to)
    if flags.onnx or flags.web:
        onnx_model.check_onnx_installed()
    runtime = web.read_runtime(flags.onnxruntime_web) if flags.web else {}
    workdir = Workdir(flags.workdir)
    workdir.config()  # Not a model folder or a name of the hub, which have no scores and counts.
    model = load_model(workdir.path, flags.checkpoint)
    schedule = workdir.schedule()
    if not schedule.is_generator_trained(model.step):
        raise InputError(
            f"--checkpoint={model.step}: its generator is untrained, which begins after step "
            f"{schedule.damsm_steps}; choose a later one of {workdir.checkpoint_steps()}, or "
            "resume training"
        )
    if flags.web:
        web.check_tokenizer(model.tokenizer)
    with atomic_folder(target) as part:
        write_model_folder(part, model, flags.dtype)
        if (grid := draw_samples(model)) is not None:
            save_png(part / SAMPLES, grid)
        source = flags.push_to or target.name
        card = write_model_card(workdir, model, source, flags.license, flags.dtype)
        (part / CARD).write_text(card, encoding="utf-8")
        _write_conversions(part, model, flags, runtime)
    _print_files(target)
    if flags.push_to:
        files = sorted(path.name for path in target.iterdir() if path.is_file())
        print(f"uploaded to {upload_model(target, flags.push_to, files)}")


def _write_conversions(
    folder: Path, model: TrainedModel, flags: argparse.Namespace, runtime: dict[str, bytes]
) -> None:
    """Writes StableHLO, ONNX and the web page, if asked to."""
    if flags.stablehlo:
        content, difference = stablehlo_model.convert_to_stablehlo(model)
        (folder / stablehlo_model.FILE).write_bytes(content)
        print(f"StableHLO: differs from JAX by at most {difference:.1e}", flush=True)
    if flags.onnx or flags.web:
        content, difference = onnx_model.convert_to_onnx(model)
        print(f"ONNX: differs from JAX by at most {difference:.1e}", flush=True)
        if flags.onnx:
            (folder / onnx_model.FILE).write_bytes(content)
        if flags.web:
            title = f"Images from captions: {Path(flags.output).name}"
            web.write_web_page(folder / web.FOLDER, model, content, runtime, title, flags.license)


def _print_files(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path.relative_to(folder)}")
    print(f"{sum(path.stat().st_size for path in files) / 2**20:8.2f} MiB in {folder}")


def main() -> None:
    """The command."""
    parser = command_parser("export", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, help="folder of a trained model")
    add("--output", required=True, help="new folder")
    add("--checkpoint", type=parse_checkpoint, help="a step or best (default: latest)")
    add("--license", help="license of the model, by its identifier on the hub: cc-by-4.0, ...")
    about = "of stored parameters (default: %(default)s)"
    add("--dtype", choices=("float32", "float16"), default="float32", help=about)
    add("--push_to", metavar="USER/NAME", help="upload to the Hugging Face hub, publicly")
    add("--onnx", action="store_true", help=f"also write {onnx_model.FILE}; needs [onnx]")
    add("--stablehlo", action="store_true", help=f"also write {stablehlo_model.FILE}")
    add("--web", action="store_true", help="also write a web page, web/; needs [onnx] and npm")
    add(
        "--onnxruntime_web",
        metavar="DIR",
        help="npm package onnxruntime-web, if npm cannot fetch it",
    )
    with exit_on_user_error():
        flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        enable_compilation_cache()
        export(flags)


if __name__ == "__main__":
    main()
