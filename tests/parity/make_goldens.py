"""Writes outputs of the SSA-GAN reference to goldens/reference.npz.

    python tests/parity/make_goldens.py --reference=DIR

DIR is a checkout of github.com/wtliao/text2image (commit 3063e27), which is run unchanged. The file
contains sketches of its outputs for the inputs and weights of `formula.py`, not the code. Needs
PyTorch, on a CPU; everything is computed in float64.

The iteration is the reference's own `main_finetune.train` for one batch, with stand-ins for its
data loader, its TensorBoard writer and its calls of `.cuda()`, and with a small image encoder in
the place of Inception v3.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from formula import sketch, weight
from reference_inputs import BATCH, CHANNELS, EMBEDDING, IMAGE_ENCODER, VOCABULARY, inputs

torch.set_default_dtype(torch.float64)
# Modules that the reference imports, but does not call here.
UNUSED = (
    *("torchvision", "torchvision.transforms", "torchvision.utils", "tensorboardX", "tqdm"),
    *("matplotlib", "matplotlib.pyplot", "dateutil", "dateutil.tz", "datasets"),
    *("skimage", "skimage.transform"),
)


class AttributeDict(dict):
    """Stands in for easydict, which the reference's configuration uses."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class ImageEncoder(torch.nn.Module):
    """Linear maps of averaged pixels, like `test_reference.ImageEncoder`."""

    def __init__(self) -> None:
        super().__init__()
        self.regions = torch.nn.Linear(3, EMBEDDING, bias=False)
        self.code = torch.nn.Linear(48, EMBEDDING)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = torch.nn.functional.avg_pool2d(images, 16).permute(0, 2, 3, 1)
        coarse = torch.nn.functional.avg_pool2d(images, 64).permute(0, 2, 3, 1)
        return self.regions(small).permute(0, 3, 1, 2), self.code(coarse.flatten(1))


class Recording(torch.optim.Adam):
    """Adam that records the gradients of every step, None for parameters outside the loss."""

    def step(self, closure: Any = None) -> None:
        """Takes a step."""
        self.gradients = getattr(self, "gradients", [])
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.gradients.append([None if p.grad is None else p.grad.clone() for p in parameters])
        super().step(closure)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Sets gradients to zero, the default of the PyTorch that the reference was written for.

        With today's default, None, MA-GP's step would skip parameters outside of it.
        """
        super().zero_grad(set_to_none=False)


class OneBatch:
    """A data loader of one batch with the iterator interface of PyTorch before 1.0."""

    def __iter__(self) -> "OneBatch":
        return self

    def __len__(self) -> int:
        return 1

    def __next__(self) -> None:
        """Returns nothing; `prepare_data` is patched to return the batch."""

    next = __next__


def tensors(arrays: dict[str, np.ndarray]) -> SimpleNamespace:
    """The shared inputs as PyTorch has them: NCHW, float64 in [-1, 1]."""
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    given["images"] = (given["pixels"].double() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    return SimpleNamespace(**given)


def filled(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """The module with the weights of `formula.weight`."""
    state = module.state_dict()
    for key, value in state.items():
        state[key] = torch.from_numpy(weight(f"{name}/{key}", tuple(value.shape)))
    module.load_state_dict(state)
    return module


def networks(ref: SimpleNamespace) -> dict[str, torch.nn.Module]:
    """The four networks at small widths."""
    text = ref.damsm.RNN_ENCODER(VOCABULARY, drop_prob=0.0, nhidden=EMBEDDING)
    made = {
        "netG": ref.model.NetG(CHANNELS, 100),
        "netD": ref.model.NetD(CHANNELS),
        "text_encoder": text,
        IMAGE_ENCODER: ImageEncoder(),
    }
    return {name: filled(module, name) for name, module in made.items()}


def generator(ref: SimpleNamespace, given: SimpleNamespace) -> dict[str, torch.Tensor]:
    """Pictures, masks and running statistics, in training and in evaluation."""
    found = {}
    for mode in ("train", "eval"):
        net = networks(ref)["netG"].train(mode == "train")
        image, masks = net(given.noise, given.sentence)
        found[f"generator/{mode}/image"] = image.permute(0, 2, 3, 1)
        for mask in masks:
            found[f"generator/{mode}/mask{mask.shape[-1]}"] = mask.permute(0, 2, 3, 1)
        if mode == "train":
            for name, value in net.state_dict().items():
                if "running" in name:
                    found[f"generator/stats/{name}"] = value
    return found


def discriminator(ref: SimpleNamespace, given: SimpleNamespace) -> dict[str, torch.Tensor]:
    """Features and logits."""
    net = networks(ref)["netD"]
    features = net(given.images)
    logits = net.COND_DNET(features, given.sentence).flatten()
    return {
        "discriminator/features": features.permute(0, 2, 3, 1),
        "discriminator/logits": logits,
    }


def damsm(ref: SimpleNamespace, given: SimpleNamespace) -> dict[str, torch.Tensor]:
    """Words and sentence losses, and every caption's attention on its own image."""
    regions = given.regions.permute(0, 2, 1).reshape(BATCH, EMBEDDING, 17, 17)
    words, labels = given.words.permute(0, 2, 1), torch.arange(BATCH)
    classes = given.class_ids
    *by_words, maps = ref.losses.words_loss(regions, words, labels, given.lengths, classes, BATCH)
    by_sentence = ref.losses.sent_loss(given.codes, given.sentence, labels, classes, BATCH)
    found = {"damsm/words": sum(by_words), "damsm/sentences": sum(by_sentence)}
    return found | {f"damsm/attention{row}": part[0] for row, part in enumerate(maps)}


def iteration(
    ref: SimpleNamespace, given: SimpleNamespace, discriminator_rate: float
) -> tuple[dict[str, torch.nn.Module], dict[str, Recording], dict[str, torch.Tensor]]:
    """One batch of the reference's training: networks, optimizers and losses after it."""
    nets, module, losses = networks(ref), ref.finetune, {}
    rates = {"netG": 1e-4, "netD": discriminator_rate, "encoders": 4e-5}
    groups = {"netG": ["netG"], "netD": ["netD"], "encoders": ["text_encoder", IMAGE_ENCODER]}
    optimizers = {
        name: Recording(
            [p for net in groups[name] for p in nets[net].parameters()], lr=rate, betas=(0.0, 0.9)
        )
        for name, rate in rates.items()
    }

    def keep(_writer: Any, _images: Any, _fakes: Any, *values: Any) -> None:
        names = ("hinge", "weighted_magp", "damsm", "generator", "weighted_damsm")
        losses.update(zip(names, (value.detach() for value in values[:5]), strict=True))

    batch = [given.images], given.tokens, given.lengths, given.class_ids.numpy(), None
    with (
        contextlib.chdir(tempfile.mkdtemp()),
        mock.patch.object(module, "prepare_data", lambda _: batch),
        mock.patch.object(module, "write_images_losses", keep),
        mock.patch.object(module, "tqdm", lambda values: values),
        mock.patch.object(torch, "randn", lambda *_: given.noise),
        mock.patch.object(torch.Tensor, "cuda", lambda self: self),
    ):
        module.train(
            OneBatch(),
            None,
            nets["netG"],
            torch.nn.DataParallel(nets["netD"]),
            nets["text_encoder"],
            nets[IMAGE_ENCODER],
            *(optimizers[name] for name in ("netG", "netD", "encoders")),
            0,
            BATCH,
            torch.device("cpu"),
        )
    return nets, optimizers, losses


def training(ref: SimpleNamespace, given: SimpleNamespace) -> dict[str, torch.Tensor]:
    """MA-GP at the initial weights, and all results of one iteration."""
    nets, optimizers, losses = iteration(ref, given, discriminator_rate=0.0)
    found = {"magp/weighted": losses["weighted_magp"]}
    names = [name for name, _ in nets["netD"].named_parameters()]
    for name, gradient in zip(names, optimizers["netD"].gradients[1], strict=True):
        if gradient is not None:
            found[f"magp/gradient/{name}"] = gradient

    nets, optimizers, losses = iteration(ref, given, discriminator_rate=4e-4)
    states = {p: s for each in optimizers.values() for p, s in each.state.items()}
    found |= {f"iteration/losses/{name}": value for name, value in losses.items()}
    for net, module in nets.items():
        for name, parameter in module.named_parameters():
            if parameter not in states:  # Made, but never used, by the reference.
                continue
            found[f"iteration/{net}/{name}"] = parameter
            found[f"iteration/mu/{net}/{name}"] = states[parameter]["exp_avg"]
            found[f"iteration/nu/{net}/{name}"] = states[parameter]["exp_avg_sq"]
        for name, buffer in module.named_buffers():
            if "running" in name:
                found[f"iteration/{net}/{name}"] = buffer
    return found


def reference(folder: str) -> SimpleNamespace:
    """The reference's modules, with stand-ins for what it imports and this does not call."""
    stubs: dict[str, Any] = {name: mock.MagicMock() for name in UNUSED}
    stubs["easydict"] = SimpleNamespace(EasyDict=AttributeDict)
    with mock.patch.dict(sys.modules, stubs), mock.patch.object(sys, "path", [folder, *sys.path]):
        import DAMSM
        import main_finetune
        import model
        from miscc import losses
        from miscc.config import cfg

    cfg.CUDA, cfg.TRAIN.MAX_EPOCH = False, 1
    return SimpleNamespace(damsm=DAMSM, finetune=main_finetune, model=model, losses=losses)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True, help="checkout of wtliao/text2image")
    ref = reference(parser.parse_args().reference)
    given = tensors(inputs())
    found = generator(ref, given) | discriminator(ref, given) | damsm(ref, given)
    found |= training(ref, given)
    path = Path(__file__).parent / "goldens" / "reference.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **{n: sketch(v.detach().numpy()) for n, v in found.items()})
    print(f"{len(found)} sketches, {path.stat().st_size} bytes: {path}")


if __name__ == "__main__":
    main()
