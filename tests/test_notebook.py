"""The Colab notebook, run from its first cell to its last on tiny images."""

import asyncio
import io
import os
import re
import zipfile
from base64 import b64decode
from pathlib import Path

import nbformat
import numpy as np
import picture_trees
import pytest
import tiny
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
CURVE = (31, 119, 180)  # Matplotlib's first color.
NOTEBOOK = ROOT / "launch" / "colab.ipynb"
OPTIONS = tiny.SIZES | {
    "generator.ssacn_blocks": 1,
    "train.ema_decay": 0.0,
    "train.batch_size": 4,
    "damsm.steps": 1,
    "train.steps": 1_000_000,
    "log.scalars_every": 1,
    "log.sample_grid_every": 1,
    "log.sample_grid_rows": 2,
}


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def filled_in(notebook, **fields):
    """The notebook with other values in its form's fields: lines `NAME = VALUE  # @param ...`."""
    for name, value in fields.items():
        pattern, line = rf"(?m)^{name} = .*(?=  # @param)", f"{name} = {value!r}"
        (cell,) = (cell for cell in notebook.cells if re.search(pattern, cell.source))
        cell.source, count = re.subn(pattern, lambda _, line=line: line, cell.source)
        assert count == 1, name
    return notebook


class Reader(NotebookClient):
    """Executes a notebook, and interrupts the training after some sample grids."""

    grids = 0

    def process_message(self, msg, cell, cell_index):
        output = super().process_message(msg, cell, cell_index)
        if cell.id == "train" and "image/png" in msg["content"].get("data", {}):
            self.grids += 1
            if self.grids == 3:
                self.interruption = asyncio.ensure_future(self.km.interrupt_kernel())
        return output


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Where it ran, and the executed notebook's cells by id."""
    folder = tmp_path_factory.mktemp("notebook")
    picture_trees.sidecar(folder / "pictures", count=12)
    prepared = folder / "prepared"
    options = OPTIONS | {"data.prepared_dir": prepared}
    notebook = filled_in(
        read(),
        PICTURES=str(folder / "pictures"),
        NAME="tiny",
        MORE=f"--prepared_dir={prepared} --image_size=32",
        OPTIONS=" ".join(f"--config.{key}={value}" for key, value in options.items()),
        CAPTION="a red car",
        NUM=2,
        ZIP=True,
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        # One device, as on most of Colab's machines, compiles sooner.
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=1"),
    }
    reader = Reader(notebook, timeout=300, kernel_name="python3")
    reader.resources = {"metadata": {"path": str(folder)}}
    reader.execute(env=environment)
    if place := os.environ.get("SSAGAN_EXECUTED_NOTEBOOK"):
        nbformat.write(notebook, place)
    return folder, {cell.id: cell for cell in notebook.cells}


def shown(cell, kind):
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def images(cell):
    return [np.asarray(Image.open(io.BytesIO(b64decode(d)))) for d in shown(cell, "image/png")]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_the_notebook_is_stored_without_outputs():
    notebook = read()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and not any(cell.outputs or cell.execution_count for cell in cells)


def test_no_cell_fails(executed):
    _, cells = executed
    code = [cell for cell in cells.values() if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(out.output_type == "error" for cell in code for out in cell.outputs)
    assert "1 x cpu" in printed(cells["setup"])


def test_the_training_images_are_shown(executed):
    _, cells = executed
    (grid,) = images(cells["data"])
    assert len(np.unique(grid)) > 100
    assert re.search(r"pictures to write +12$", printed(cells["data"]), re.MULTILINE)


def test_training_shows_progress_and_newest_grid_and_saves_when_interrupted(executed):
    folder, cells = executed
    (grid,) = images(cells["train"])
    # Two rows of caption, real image, generated image and mask.
    assert grid.shape == (24 + 2 * 136 + 8, 220 + 3 * 136 + 8, 3)
    real, generated = (grid[28:156, 220 + column * 136 :][:, :128] for column in range(2))
    assert len(np.unique(real)) > 100 and len(np.unique(generated)) > 10
    assert any(re.search(r"gan \d+/1000000 ", bar) for bar in shown(cells["train"], "text/html"))
    (step,) = re.findall(r"checkpoint saved at step (\d+)", printed(cells["train"]))
    assert (folder / f"ssagan_runs/quickstart-tiny/checkpoints/{step}").is_dir()


def test_images_are_generated_from_the_users_caption(executed):
    _, cells = executed
    first, second = images(cells["generate"])
    assert first.shape == (32, 32, 3)
    assert min(len(np.unique(first)), len(np.unique(second))) > 10
    assert not np.array_equal(first, second)


def test_scores_curves_and_report_are_shown(executed):
    folder, cells = executed
    assert "r_precision" in printed(cells["score"])
    charts = images(cells["report"])
    assert len(charts) == 4
    for chart in charts:
        _, columns = np.nonzero((chart[..., :3] == CURVE).all(-1))
        assert np.ptp(columns) > chart.shape[1] / 2
    (link,) = shown(cells["report"], "text/html")
    page = b64decode(re.search(r'base64,([^"]+)"', link)[1])
    assert page == (folder / "ssagan_runs/report/index.html").read_bytes()


def test_the_run_can_be_downloaded(executed):
    folder, _ = executed
    with zipfile.ZipFile(folder / "ssagan_runs/quickstart-tiny.zip") as archive:
        names = set(archive.namelist())
    assert {"config.json", "tokenizer.json", "eval/metrics.jsonl"} <= names
