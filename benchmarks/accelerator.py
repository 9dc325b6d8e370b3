"""Everything worth measuring on one GPU, in one command: a Markdown page with pictures.

    python benchmarks/accelerator.py --output=DIR --reference=CHECKOUT
    python benchmarks/accelerator.py --output=DIR --size=tiny     # a rehearsal on a CPU

Runs `step.py`, `painting.py` and `scaling.py`, trains a small model on drawn cars, saves and reads
its checkpoint and paints with it, each part in a process of its own that is ended after its share
of `--minutes`. The page DIR/index.md is written anew after every part, so what was measured is kept
whatever stops the rest. TensorFlow, clu, TFDS and grain are not needed; ml_collections, tokenizers
and Pillow are. CHECKOUT is github.com/wtliao/text2image and needs torch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
# Part, its share of the time, and its arguments by size; {reference} is left out without one.
PARTS: list[tuple[str, float, dict[str, str]]] = [
    (
        "A step of the full model: step.py",
        0.3,
        {
            "full": "step.py {reference} --channels 64 --batch_sizes 16 "
            "--precisions bfloat16 tf32 float32 --steps 5 --profile",
            "tiny": "step.py {reference} --channels 4 --batch_sizes 2 --steps 1 --rounds 1 "
            "--warm_up 1 --profile",
        },
    ),
    (
        "Training and painting: train_cars.py",
        0.15,
        {
            "full": "train_cars.py --output={output} --image_size=64 --damsm_steps=400 "
            "--gan_steps=2500",
            "tiny": "train_cars.py --output={output} --image_size=32 --channels=4 "
            "--damsm_steps=3 --gan_steps=3 --cars=32",
        },
    ),
    (
        "Painting: painting.py",
        0.15,
        {
            "full": "painting.py {reference} --channels 64 --batch_sizes 1 4 16 64",
            "tiny": "painting.py {reference} --channels 4 --batch_sizes 1 --batches 1 --rounds 1",
        },
    ),
    (
        "Batch sizes and widths: step.py",
        0.3,
        {
            "full": "step.py {reference} --channels 16 32 64 --batch_sizes 64 128 256 "
            "--precisions bfloat16 --steps 3 --rounds 2",
            "tiny": "step.py --image_size 32 --channels 4 --batch_sizes 4 --steps 1 --rounds 1",
        },
    ),
    (
        "Several devices, on paper: scaling.py",
        0.1,
        {
            "full": "scaling.py --channels 64 --devices 1 4",
            "tiny": "scaling.py --channels 4 --image_size 32 --batch_size 2 --devices 1 2",
        },
    ),
]


def run_part(command: list[str], seconds: float, environment: dict[str, str]) -> str:
    """Output of a part, with what went wrong at its end; it is killed when its time is over."""
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=FOLDER,
            env=environment,
            timeout=seconds,
            text=True,
            capture_output=True,
        )
    except subprocess.TimeoutExpired as error:
        found = error.stdout or b""
        text = found if isinstance(found, str) else found.decode(errors="replace")
        return f"{text}\n\nstopped after {seconds:.0f} s"
    if done.returncode:
        return f"{done.stdout}\n\nexit code {done.returncode}:\n\n```\n{done.stderr[-2000:]}\n```"
    return done.stdout


def main() -> None:
    """Runs all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--reference", type=Path, help="checkout of wtliao/text2image")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--minutes", type=float, default=25)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as compiled:
        _run_all(flags, compiled)


def _run_all(flags: argparse.Namespace, compiled: str) -> None:
    """Runs all parts, which share a folder of compiled programs."""
    output = flags.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    root = FOLDER.parent
    environment = os.environ | {
        "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", compiled),
    }
    begin, page = time.perf_counter(), ["# Measured on one accelerator\n"]
    for number, (title, share, sizes) in enumerate(PARTS):
        left = flags.minutes * 60 - (time.perf_counter() - begin)
        # What earlier parts did not need is divided among the rest.
        seconds = left * share / sum(part[1] for part in PARTS[number:])
        reference = f"--reference={flags.reference.resolve()}" if flags.reference else ""
        words = [
            word.format(output=output, reference=reference) for word in sizes[flags.size].split()
        ]
        words = [word for word in words if word]
        start = time.perf_counter()
        found = run_part(words, seconds, environment)
        hidden = [word for word in words if word != reference]
        shown = " ".join(hidden).replace(str(output), "DIR")
        took = time.perf_counter() - start
        page.append(f"## {title}\n\n`{shown}`, {took:.0f} s\n\n{found.strip()}\n")
        (output / "index.md").write_text("\n".join(page), encoding="utf-8")
        print(f"{title}: {took:.0f} s", flush=True)
    print(output / "index.md")


if __name__ == "__main__":
    sys.exit(main())
