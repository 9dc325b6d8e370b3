"""Times training iterations and painting of the PyTorch reference, in a process of its own.

Each line on standard input is a command, each answer a line of JSON: "train STEPS" gives wall and
CPU seconds of each iteration, "paint BATCHES" those of all batches, "memory" the peak in bytes.

The iteration is `train` of `main_finetune.py` in a checkout of github.com/wtliao/text2image, run
unchanged, with stand-ins for its data loader and its writer, and with a PyTorch twin of
`models/image_encoder.py` in place of Inception v3.
"""

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

_UNUSED = ("torchvision", "torchvision.transforms", "torchvision.utils", "tensorboardX", "tqdm")
_UNUSED += ("matplotlib", "matplotlib.pyplot", "dateutil", "dateutil.tz", "datasets")
_UNUSED += ("skimage", "skimage.transform")
WORDS, VOCABULARY, EMBEDDING = 18, 5000, 256


class _Attributes(dict):
    """Stands in for easydict."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class ImageEncoder(torch.nn.Module):
    """The layers of `models.image_encoder.CnnImageEncoder` at 256 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [3, *(channels * min(8, 2**index) for index in range(5))]
        self.down = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Conv2d(before, after, 4, 2, 1, bias=False),
                torch.nn.GroupNorm(8, after),
                torch.nn.LeakyReLU(0.2),
            )
            for before, after in zip(widths, widths[1:], strict=False)
        )
        self.regions = torch.nn.Conv2d(widths[4], EMBEDDING, 1, bias=False)
        self.code = torch.nn.Linear(widths[5], EMBEDDING)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, 3, 256, 256] to regions [B, E, 16, 16] and codes [B, E]."""
        for layer in self.down[:4]:
            images = layer(images)
        return self.regions(images), self.code(self.down[4](images).mean((2, 3)))


class Batches:
    """A data loader of so many equal batches, which notes the time before each and at the end."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._count, self._device, self.times = count, device, []

    def __iter__(self) -> "Batches":
        return self

    def __len__(self) -> int:
        return self._count

    def __next__(self) -> None:
        self.note()

    next = __next__

    def note(self) -> None:
        """Notes wall and CPU seconds once the device is idle."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.times.append((time.perf_counter(), time.process_time()))


class Reference:
    """The reference's networks and optimizers, and a batch of noise."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.device = torch.device("cuda" if flags.cuda else "cpu")
        self._modules, size = _load(flags.reference, flags.cuda), flags.batch_size
        self._batch_size = size
        self.net_g = self._modules["model"].NetG(flags.channels, 100)
        net_d = self._modules["model"].NetD(flags.channels)
        self._text = self._modules["DAMSM"].RNN_ENCODER(VOCABULARY, nhidden=EMBEDDING)
        self._image = ImageEncoder(max(8, flags.channels // 2))
        for net in (self.net_g, net_d, self._text, self._image):
            net.to(self.device)
        self._net_d = torch.nn.DataParallel(net_d)
        groups = [self.net_g], [self._net_d], [self._text, self._image]
        self._optimizers = [
            torch.optim.Adam([p for net in nets for p in net.parameters()], rate, (0.0, 0.9))
            for nets, rate in zip(groups, (1e-4, 4e-4, 4e-5), strict=True)
        ]
        lengths = torch.arange(WORDS, 0, -1).repeat(-(-size // WORDS))[:size]
        lengths = lengths.sort(descending=True).values
        tokens = torch.randint(1, VOCABULARY, (size, WORDS))
        tokens[torch.arange(WORDS)[None] >= lengths[:, None]] = 0
        images = (torch.rand(size, 3, 256, 256) * 2 - 1).to(self.device)
        classes = torch.arange(size).numpy()
        self._batch = [images], tokens.to(self.device), lengths, classes, None

    def train(self, steps: int) -> list[tuple[float, float]]:
        """Wall and CPU seconds of each iteration."""
        module, batches = self._modules["main_finetune"], Batches(steps, self.device)
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(tempfile.mkdtemp()))
            stack.enter_context(mock.patch.object(module, "prepare_data", lambda _: self._batch))
            stack.enter_context(mock.patch.object(module, "tqdm", lambda values: values))
            if self.device.type == "cpu":
                stack.enter_context(mock.patch.object(torch.Tensor, "cuda", lambda self: self))
            nets = (self.net_g, self._net_d, self._text, self._image)
            arguments = (*nets, *self._optimizers, 0, self._batch_size, self.device)
            module.train(batches, None, *arguments)
        batches.note()
        pairs = zip(batches.times, batches.times[1:], strict=False)
        return [(b[0] - a[0], b[1] - a[1]) for a, b in pairs]

    def paint(self, count: int) -> list[tuple[float, float]]:
        """Wall and CPU seconds of batches from tokens to images on the host."""
        _, tokens, lengths, *_ = self._batch
        batches = Batches(0, self.device)
        self.net_g.eval()
        self._text.eval()
        with torch.no_grad():
            for _ in range(count):
                batches.note()
                hidden = self._text.init_hidden(self._batch_size)
                _, sentence = self._text(tokens, lengths, hidden)
                noise = torch.randn(self._batch_size, 100).to(self.device)
                images, _ = self.net_g(noise, sentence)
                ((images + 1) * 127.5).round().to(torch.uint8).cpu()
        batches.note()
        self.net_g.train()
        self._text.train()
        pairs = zip(batches.times, batches.times[1:], strict=False)
        return [(b[0] - a[0], b[1] - a[1]) for a, b in pairs]

    def memory(self) -> int:
        """Peak bytes of the device, or of this process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _load(folder: str, cuda: bool) -> dict[str, Any]:
    """The reference's modules by name, with stand-ins for what is imported and not called."""
    stubs: dict[str, Any] = {name: mock.MagicMock() for name in _UNUSED}
    stubs["easydict"] = mock.MagicMock(EasyDict=_Attributes)
    with mock.patch.dict(sys.modules, stubs), mock.patch.object(sys, "path", [folder, *sys.path]):
        import DAMSM
        import main_finetune
        import model
        from miscc.config import cfg

    cfg.CUDA, cfg.TRAIN.MAX_EPOCH = cuda, 1
    main_finetune.write_images_losses = lambda *_: None
    return {"DAMSM": DAMSM, "main_finetune": main_finetune, "model": model}


def main() -> None:
    """Answers commands until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--tf32", action="store_true")
    flags = parser.parse_args()
    flags.reference = str(Path(flags.reference).resolve())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = flags.tf32
    torch.backends.cudnn.benchmark = True
    answers, sys.stdout = sys.stdout, sys.stderr  # The reference prints.
    reference = Reference(flags)
    for line in sys.stdin:
        command, *numbers = line.split()
        answer = getattr(reference, command)(*map(int, numbers))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
