"""The benchmarks run and print their tables; what they measure is asserted nowhere."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from picture_trees import draw, write

ROOT = Path(__file__).parents[1]
COUNT = 6


def write_photos(root):
    """Six photos with boxes in AttnGAN's layout, four for training and two for validation."""
    names = [f"00{number % 2}.Kind/photo_{number}" for number in range(COUNT)]
    images, boxes = "", ""
    for number, name in enumerate(names):
        draw(root / f"CUB_200_2011/images/{name}.jpg", number, (60 + number, 50))
        write(root / f"text/{name}.txt", f"a bird {number}\n\none of {COUNT} birds\n")
        images += f"{number + 1} {name}.jpg\n"
        boxes += f"{number + 1} 5.0 6.0 40.0 {30 + number}.0\n"
    write(root / "CUB_200_2011/images.txt", images)
    write(root / "CUB_200_2011/bounding_boxes.txt", boxes)
    write(root / "train/filenames.pickle", names[:4])
    write(root / "test/filenames.pickle", names[4:])
    return root


def test_the_input_pipelines_table_has_a_row_for_each_size_and_reader(tmp_path):
    command = [sys.executable, ROOT / "benchmarks/input_pipeline.py"]
    command += [f"--source={write_photos(tmp_path)}", "--sizes", "8", "16"]
    command += ["--epochs=2", "--repeats=1", "--batch_size=2", "--step_ms=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    torch = importlib.util.find_spec("torch") is not None
    readers = ["memory", "file", "neither"] + ["DataLoader"] * torch
    row = r"\| (\d+) \| (\w+) \| \d+ \| \d+ \| \d+% / \d+% \| "
    row += r"[\d.]+ / [\d.]+ \|" if torch else r"torch is not installed \|"
    found = re.findall(f"^{row}$", done.stdout, re.MULTILINE)
    assert found == [(size, reader) for size in ("8", "16") for reader in readers]
    assert done.stdout.count("decoding 4 pictures once") == 4
    assert "prepared 6 pictures at 16 px once" in done.stdout
