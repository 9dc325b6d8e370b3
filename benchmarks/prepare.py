"""Time and memory to prepare many pictures.

python benchmarks/prepare.py --count=10000

Draws JPEGs of 480 x 360 pixels with a text beside each, runs `python -m ssagan_jax.prepare` on
them, and prints its seconds and the highest memory of it and its children.
"""

import argparse
import concurrent.futures
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_SIZE = (480, 360)
_COLORS = ("red", "blue", "green", "white", "black", "silver", "yellow")


def draw(folder: Path, number: int) -> None:
    """Writes a smooth image of random colours with some grain, and three sentences."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    smooth = np.asarray(coarse.resize(_SIZE, Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-8, 9, (_SIZE[1], _SIZE[0], 1), np.int16)
    part = folder / f"{number // 1000:03d}"
    part.mkdir(exist_ok=True)
    picture = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
    picture.save(part / f"{number:06d}.jpg", quality=90)
    color = _COLORS[number % len(_COLORS)]
    sentences = [f"a {color} car number {number} is parked {place}." for place in ("here", "there")]
    (part / f"{number:06d}.txt").write_text("\n".join([*sentences, f"it is a {color} car"]))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; shared pages count for each of them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * 4096 + sum(resident_bytes(int(child)) for child in children)


def measure(command: list[str]) -> tuple[float, int]:
    """Runs a command; returns its seconds and highest resident bytes."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.monotonic() - started, peak


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--image_size", type=int, default=64)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: draw(data, number), range(flags.count)))
        command = [sys.executable, "-m", "ssagan_jax.prepare", f"--source={data}", "--name=many"]
        command += [f"--image_size={flags.image_size}", f"--prepared_dir={folder}"]
        seconds, peak = measure(command)
        size = sum(file.stat().st_size for file in Path(folder, "prepared/many").iterdir())
    print(
        f"{flags.count} pictures at {flags.image_size}: {seconds:.0f} s, "
        f"{flags.count / seconds:.0f} pictures/s, memory at most {peak / 2**20:.0f} MiB, "
        f"{size / 2**20:.0f} MiB written"
    )


if __name__ == "__main__":
    main()
