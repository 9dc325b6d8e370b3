"""Compares scores with torch-fidelity: `python benchmarks/scores.py --generated=A --real=B`.

A and B are folders of images. The first `--num` by name are center-cropped to a square and resized
to `--size`. Both tools get the same pixels and the same weights, those of `--inception_weights` or
else random ones. Prints a Markdown table of IS, FID, KID, precision and recall, of each tool's
seconds and of its peak memory. Each tool runs in a separate process; without torch and
torch-fidelity only the project's own scores are shown.

torch-fidelity is imported without torchvision, which its network and metrics do not need. By
default its `calculate_metrics` computes precision and recall from VGG features; here both tools use
Inception for all scores.
"""

import argparse
import importlib
import importlib.util
import io
import multiprocessing
import resource
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

BATCH = 32
# Our names of the scores and torch-fidelity's.
SCORES = {
    "inception_score": "inception_score_mean",
    "fid": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "precision": "precision",
    "recall": "recall",
}


def batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Batches u8[B, S, S, 3] of a memory-mapped file of images."""
    for start in range(0, len(pixels), BATCH):
        yield np.array(pixels[start : start + BATCH])


def ours(generated: np.ndarray, real: np.ndarray, weights: Path) -> dict[str, float]:
    """This project's scores."""
    from ssagan_jax.metrics.features import FeatureStats
    from ssagan_jax.metrics.fid import frechet_distance
    from ssagan_jax.metrics.inception_features import inception_features
    from ssagan_jax.metrics.inception_score import InceptionScore
    from ssagan_jax.metrics.kid import kernel_inception_distance
    from ssagan_jax.metrics.precision_recall import precision_recall
    from ssagan_jax.steps.pmap import pmap_batched, replicate

    network = inception_features(weights)
    apply, variables = pmap_batched(network.rows, BATCH), replicate(network.variables)
    fake_stats, real_stats = FeatureStats(len(generated)), FeatureStats(len(real))
    inception_score = InceptionScore(len(generated))
    for images in batches(generated):
        outputs = apply(variables, {"image": images})
        fake_stats.add(outputs["pooled"])
        inception_score.add(outputs["logits"])
    for images in batches(real):
        real_stats.add(apply(variables, {"image": images})["pooled"])
    features = fake_stats.features, real_stats.features
    fid = frechet_distance(fake_stats.moments, real_stats.moments)
    scores = inception_score.result()[0], fid, *kernel_inception_distance(*features)
    return dict(zip(SCORES, (*scores, *precision_recall(*features)), strict=True))


def fidelity(name: str) -> Any:
    """A module of torch-fidelity, imported without torchvision."""
    package = importlib.util.module_from_spec(importlib.util.find_spec("torch_fidelity"))
    sys.modules.setdefault("torch_fidelity", package)
    stub = types.ModuleType("torch_fidelity.utils")
    stub.__getattr__ = lambda name: None
    sys.modules.setdefault("torch_fidelity.utils", stub)
    return importlib.import_module(f"torch_fidelity.{name}")


def theirs(generated: np.ndarray, real: np.ndarray, weights: Path) -> dict[str, float]:
    """torch-fidelity's scores, from its network and its functions of features."""
    import torch

    from ssagan_jax.metrics.kid import subset_size

    network = fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], str(weights)
    )
    features = []
    for pixels in (generated, real):
        parts = [
            network(torch.from_numpy(images).permute(0, 3, 1, 2)) for images in batches(pixels)
        ]
        features.append([torch.cat(outputs) for outputs in zip(*parts, strict=True)])
    (pooled, logits), (real_pooled, _) = features
    fid = fidelity("metric_fid")
    statistics = [fid.fid_features_to_statistics(rows) for rows in (pooled, real_pooled)]
    scores = fidelity("metric_isc").isc_features_to_metric(logits)
    scores |= fid.fid_statistics_to_metric(*statistics, verbose=False)
    size = subset_size(len(generated), len(real))
    kernel, quiet = fidelity("metric_kid"), {"verbose": False}
    scores |= kernel.kid_features_to_metric(pooled, real_pooled, kid_subset_size=size, **quiet)
    scores |= fidelity("metric_prc").prc_features_to_metric(pooled, real_pooled, **quiet)
    return {name: scores[key] for name, key in SCORES.items()}


def measure(tool: str, folder: Path, weights: Path) -> dict[str, float]:
    """Scores, seconds and peak memory of one tool, as the only task of its process."""
    pixels = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("generated", "real")]
    begin = time.perf_counter()
    scores = {"ours": ours, "torch-fidelity": theirs}[tool](*pixels, weights)
    seconds = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"seconds": seconds, "seconds of all cores": used.ru_utime + used.ru_stime}
    return scores | figures | {"peak memory, MiB": used.ru_maxrss / 1024}


def write_pixels(folder: Path, num: int, size: int, file: Path) -> int:
    """Writes the first images of a folder by name to a .npy file u8[N, S, S, 3]; returns N."""
    names = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    names = names[:num]
    pixels = np.lib.format.open_memmap(file, "w+", np.uint8, (len(names), size, size, 3))
    for index, name in enumerate(names):
        with Image.open(name) as image:
            pixels[index] = np.asarray(
                ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
            )
    return len(names)


def random_weights(file: Path) -> None:
    """Writes random weights in the published layout, scaled to keep the variance of signals."""
    import torch

    base = fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3

    class Random(base):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            torch.manual_seed(0)
            for module in self.modules():
                if isinstance(module, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(module.weight)
            # Large enough that predictions differ between images.
            torch.nn.init.normal_(self.fc.weight, std=0.3)

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.save(Random("random", ["2048"], nothing).state_dict(), file)


def table(ours: dict[str, float], theirs: dict[str, float] | None) -> str:
    """A Markdown table with a row for each score and measurement."""
    lines = ["| | ours | torch-fidelity | relative difference |", "| --- | --- | --- | --- |"]
    for name, value in ours.items():
        if theirs is None:
            lines.append(f"| {name} | {value:.7g} | not installed | |")
            continue
        difference = f"{abs(value / theirs[name] - 1):.1e}" if name in SCORES else ""
        lines.append(f"| {name} | {value:.7g} | {theirs[name]:.7g} | {difference} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--generated", type=Path, required=True, help="folder of images")
    parser.add_argument("--real", type=Path, required=True, help="folder of images")
    parser.add_argument("--num", type=int, default=5000, help="images per folder, at most")
    parser.add_argument("--size", type=int, default=64, help="edge in pixels")
    parser.add_argument("--inception_weights", type=Path, help="weight file; default: random")
    flags = parser.parse_args()
    installed = all(map(importlib.util.find_spec, ("torch", "torch_fidelity")))
    if not (installed or flags.inception_weights):
        parser.error("without torch and torch-fidelity, --inception_weights is required")
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as temporary,
        ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as processes,
    ):
        folder, weights = Path(temporary), flags.inception_weights
        num_generated, num_real = (
            write_pixels(getattr(flags, name), flags.num, flags.size, folder / f"{name}.npy")
            for name in ("generated", "real")
        )
        if weights is None:
            weights = folder / "random.pth"
            processes.submit(random_weights, weights).result()
        print(f"{num_generated} and {num_real} images, {flags.size} px, {weights.name}\n")
        tools = ("ours", "torch-fidelity") if installed else ("ours",)
        results = [processes.submit(measure, tool, folder, weights).result() for tool in tools]
        print(table(results[0], results[1] if installed else None))


if __name__ == "__main__":
    main()
