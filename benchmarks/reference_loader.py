"""Times the reference's reader: a PyTorch DataLoader that decodes photos each time they are drawn.

`input_pipeline.py` runs this as a separate process: DataLoader forks its workers, and a process
with JAX must not fork. Each line on standard input is a command, each answer a line of JSON:
"start" makes a new loader, "epoch STEP_MS" reads all photos once.

torchvision is not needed: its transforms (Resize, RandomCrop, RandomHorizontalFlip, ToTensor,
Normalize) are done with Pillow, numpy and torch.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from ssagan_jax.data.images.resizing import crop_and_resize, get_load_size


def run_epoch(batches: Iterator[Any], count: int, step_ms: float) -> tuple[float, float]:
    """Draws `count` batches, sleeping `step_ms` after each.

    Returns:
      Total seconds, and seconds spent waiting for a batch.
    """
    begin, waited = time.perf_counter(), 0.0
    for _ in range(count):
        start = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - start
        time.sleep(step_ms / 1000)
    return time.perf_counter() - begin, waited


class Photos:
    """Photos cropped around their box, scaled, cropped at random, flipped and normalised.

    An item is (image f32[3, S, S] in [-1, 1], tokens i64[T], words, class).
    """

    def __init__(self, job: dict[str, Any]) -> None:
        """`job` is that of `_reference_job` in `input_pipeline.py`."""
        self._photos = job["photos"]
        self._size, self._words = job["size"], job["words"]

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray, int, int]:
        import torch  # Here, so that `run_epoch` can be imported without torch.

        photo, rng = self._photos[index], np.random
        image = Image.open(photo["path"]).convert("RGB")
        image = crop_and_resize(image, photo["box"], get_load_size(self._size))
        left = rng.randint(image.width - self._size + 1)
        top = rng.randint(image.height - self._size + 1)
        image = image.crop((left, top, left + self._size, top + self._size))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        ids = np.asarray(photo["captions"][rng.randint(len(photo["captions"]))])
        if len(ids) > self._words:
            ids = ids[np.sort(rng.permutation(len(ids))[: self._words])]
        tokens = np.zeros(self._words, np.int64)
        tokens[: len(ids)] = ids
        return pixels.sub(0.5).div(0.5), tokens, len(ids), photo["class_id"]


def main() -> None:
    """Answers commands until the input ends."""
    import torch

    job = json.loads(sys.stdin.readline())
    batches = len(job["photos"]) // job["batch_size"]
    loader = None
    for line in sys.stdin:
        command, *rest = line.split()
        answer = None
        if command == "start":
            # The reference's loader restarts its workers in each epoch; these persist.
            loader = torch.utils.data.DataLoader(
                Photos(job),
                batch_size=job["batch_size"],
                drop_last=True,
                shuffle=True,
                num_workers=job["workers"],
                persistent_workers=True,
            )
        else:
            begin = time.perf_counter()
            iterator = iter(loader)
            started = time.perf_counter() - begin
            seconds, waited = run_epoch(iterator, batches, float(rest[0]))
            answer = (seconds + started, waited + started)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
