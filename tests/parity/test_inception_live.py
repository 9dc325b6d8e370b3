"""Both Inception v3 variants against torch-fidelity's network, with its weights carried over."""

import functools
import importlib.util
import io
import sys

import jax
import numpy as np
import pytest

from ssagan_jax.models.inception import InceptionV3Features
from ssagan_jax.pytorch.torchvision_inception import load_inception

torch = pytest.importorskip("torch", reason="bash launch/test.sh --parity installs PyTorch")
spec = importlib.util.find_spec("torch_fidelity")
if spec is None:
    reason = "bash launch/test.sh --parity installs torch-fidelity"
    pytest.skip(reason, allow_module_level=True)
# Its __init__ imports torchvision, which this network does not need.
sys.modules.setdefault("torch_fidelity", importlib.util.module_from_spec(spec))
reference = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")

TAPS = ("Mixed_6e", "pooled", "logits")
AGAINST = {
    "fid": "torch-fidelity",
    "torchvision": "torchvision's layout of torch-fidelity's blocks",
}


class RandomNetwork(reference.FeatureExtractorInceptionV3):
    """torch-fidelity's network with random weights in place of the published ones."""

    def __init__(self):
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("random", ["2048", "logits"], nothing)

    def load_state_dict(self, state_dict):
        torch.manual_seed(0)
        for module in self.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    torch.nn.init.uniform_(tensor, 0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    torch.nn.init.uniform_(tensor, -0.2, 0.2)


def count_padding(block, inputs, outputs):
    """A block's outputs with the branch that pools, which is the last, done as torchvision does."""
    pooled = torch.nn.functional.avg_pool2d(inputs[0], 3, stride=1, padding=1)
    projected = block.branch_pool(pooled)
    return torch.cat([outputs[:, : -projected.shape[1]], projected], 1)


class TorchvisionNetwork(RandomNetwork):
    """torchvision's `inception_v3`: what torch-fidelity changed in it, changed back.

    torchvision's wheels do not load beside every build of PyTorch, so none is asked for.
    """

    def load_state_dict(self, state_dict):
        self.Mixed_7c = reference.InceptionE_1(2048)
        self.fc = torch.nn.Linear(2048, 1000)
        super().load_state_dict(state_dict)
        for module in self.children():
            if hasattr(module, "branch_pool"):
                module.register_forward_hook(count_padding)

    def forward(self, images):
        """Takes floats f32[B, 3, S, S] in [-1, 1] of any size."""
        size = (self.INPUT_IMAGE_SIZE, self.INPUT_IMAGE_SIZE)
        hidden = torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)
        *layers, classifier = self.children()
        pooled = torch.nn.Sequential(*layers)(hidden).flatten(1)
        return pooled, classifier(pooled)


def relative_to_rms(found, wanted):
    """The largest difference of two arrays, divided by the RMS of the second."""
    return np.abs(np.asarray(found) - wanted).max() / np.sqrt(np.square(wanted).mean())


def taps_of(network, inputs):
    taps = []
    network.Mixed_6e.register_forward_hook(lambda block, inputs, outputs: taps.append(outputs))
    pooled, logits = network(inputs)
    return taps[0].permute(0, 2, 3, 1).numpy(), pooled.numpy(), logits.numpy()


@pytest.mark.parametrize(
    ("variant", "network", "size"),
    [("fid", RandomNetwork, 299), ("torchvision", TorchvisionNetwork, 256)],
)
def test_taps(tmp_path, measured, variant, network, size):
    network = network()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    variables = load_inception(tmp_path / "inception.pth", variant, logits=True)
    images = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
    scaled = (images.float() - 128) / 128
    wanted = taps_of(network, images if variant == "fid" else scaled)
    apply = jax.jit(InceptionV3Features(variant, logits=True).apply)
    found = apply(variables, scaled.permute(0, 2, 3, 1).numpy())
    for name, ours, theirs in zip(TAPS, found, wanted, strict=True):
        part = f"Inception v3, {variant}, {name}: difference / RMS"
        measured(part, AGAINST[variant], relative_to_rms(ours, theirs), 1e-4)


def test_statistics_of_each_batch(tmp_path, measured):
    # In float64, since dividing by a batch's own small variances lets rounding grow.
    network = TorchvisionNetwork().double().train()
    torch.save(network.state_dict(), tmp_path / "before.pth")
    images = torch.rand(3, 3, 256, 256, dtype=torch.float64) * 2 - 1
    wanted = taps_of(network, images)[:2]
    torch.save(network.state_dict(), tmp_path / "after.pth")
    before, after = (load_inception(tmp_path / f"{name}.pth") for name in ("before", "after"))
    with jax.enable_x64(True):
        before = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), before)
        apply = jax.jit(functools.partial(InceptionV3Features().apply, mutable=["trunk"]))
        found, moved = jax.device_get(apply(before, images.permute(0, 2, 3, 1).numpy()))
    for name, ours, theirs in zip(TAPS, found, wanted, strict=False):
        part = f"Inception v3, statistics of the batch, {name}: difference / RMS"
        measured(part, AGAINST["torchvision"], relative_to_rms(ours, theirs), 1e-4)
    # The stand-in for torchvision runs the branch that pools twice, and so moves its norm twice.
    for (path, theirs), ours in zip(
        jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(moved), strict=True
    ):
        if "branch_pool" in jax.tree_util.keystr(path):
            continue
        far = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        measured("Inception v3, running statistics", AGAINST["torchvision"], far, 1e-4)
