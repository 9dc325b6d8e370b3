"""A web page that generates images in the browser: files for any web server, which runs no code."""

import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.exporting import onnx_model
from ssagan_jax.exporting.generate_function import ExportError
from ssagan_jax.inference.model_folder import TOKENIZER
from ssagan_jax.inference.trained_model import TrainedModel

FOLDER = "web"
_PAGE = Path(__file__).with_name("web_page")
_RUNTIME = "onnxruntime-web@1.30.0"
# Files of the npm package in "dist", and their names in the page's folder: not all web servers know
# that .mjs is JavaScript.
_RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "ort.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
_ABOUT_RUNTIME = f"{_RUNTIME} of npm, by Microsoft, MIT license: https://onnxruntime.ai\n"
_MAX_EXAMPLES = 6


def read_runtime(folder: str | None) -> dict[str, bytes]:
    """The files of onnxruntime-web, by name.

    Args:
      folder: the unpacked npm package; None to fetch it with npm.

    Raises:
      ExportError: the folder lacks a file, or npm is missing or cannot fetch the package.
    """
    if folder is None:
        return _fetch_runtime()
    for path in (Path(folder), Path(folder) / "dist", Path(folder) / "package" / "dist"):
        if all((path / name).is_file() for name in _RUNTIME_FILES):
            return {new: (path / old).read_bytes() for old, new in _RUNTIME_FILES.items()}
    raise ExportError(
        f"--onnxruntime_web={folder}: has no {' and '.join(_RUNTIME_FILES)}; give the folder "
        f"of the unpacked npm package {_RUNTIME}"
    )


def _fetch_runtime() -> dict[str, bytes]:
    npm = shutil.which("npm")
    with tempfile.TemporaryDirectory() as folder:
        reason = "npm is not installed"
        if npm:
            done = subprocess.run(
                [npm, "pack", _RUNTIME], cwd=folder, capture_output=True, text=True, check=False
            )
            reason = (done.stderr.strip() or "npm failed").splitlines()[0][:200]
        archives = list(Path(folder).glob("*.tgz"))
        if not archives:
            raise ExportError(
                f"--web: {_RUNTIME} cannot be fetched ({reason}); on a machine with network and "
                f"npm run `npm pack {_RUNTIME}`, unpack the archive here, and give its folder with "
                "--onnxruntime_web=DIR"
            )
        with tarfile.open(archives[0]) as archive:
            return {
                new: archive.extractfile(f"package/dist/{old}").read()
                for old, new in _RUNTIME_FILES.items()
            }


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raises ExportError for a pretrained tokenizer that the page does not know."""
    if tokenizer.kind != "wordpiece":
        return
    pipeline = json.loads(tokenizer.to_json())["tokenizer"]
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    known = (
        (pipeline["normalizer"] or {}).get("type") == "BertNormalizer"
        and (pipeline["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
        and pipeline["model"]["continuing_subword_prefix"] == "##"
        and not any(token[flag] for token in pipeline["added_tokens"] for flag in flags)
    )
    if not known:
        raise ExportError("--web: its tokenizer is not one of BERT's; the page knows only those")


def write_web_page(
    folder: Path,
    model: TrainedModel,
    onnx: bytes,
    runtime: dict[str, bytes],
    title: str,
    license_id: str | None,
) -> None:
    """Writes the page.

    Args:
      folder: to write to; made here.
      model: whose tokenizer the page uses.
      onnx: content of the model's ONNX file.
      runtime: of `read_runtime`.
      title: of the page.
      license_id: the license that the user names, or None.
    """
    shutil.copytree(_PAGE, folder)
    (folder / onnx_model.FILE).write_bytes(onnx)
    model.tokenizer.save(folder / TOKENIZER)
    settings = {
        "title": title,
        "license": license_id,
        "image_size": model.config.data.image_size,
        "max_words": model.config.data.max_words,
        "noise_dim": model.config.generator.noise_dim,
        "examples": list(dict.fromkeys(model.example_captions))[:_MAX_EXAMPLES],
    }
    (folder / "model.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "onnxruntime").mkdir()
    for name, content in runtime.items():
        (folder / "onnxruntime" / name).write_bytes(content)
    (folder / "onnxruntime" / "README.txt").write_text(_ABOUT_RUNTIME, encoding="utf-8")
