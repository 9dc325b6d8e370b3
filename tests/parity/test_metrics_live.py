"""Scores against torch-fidelity's functions, on one weights file and the same uint8 images."""

import importlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from test_inception_live import (
    AGAINST,
    RandomNetwork,
    TorchvisionNetwork,
    reference,
    relative_to_rms,
    torch,
)

from ssagan_jax.metrics import kid
from ssagan_jax.metrics.fid import Moments, frechet_distance
from ssagan_jax.metrics.inception_features import inception_features, tensorflow1_bilinear
from ssagan_jax.metrics.inception_score import InceptionScore
from ssagan_jax.metrics.precision_recall import precision_recall

FIDELITY = "torch-fidelity"
NUM, SIZE, SPLITS, SUBSETS, SUBSET_SIZE = 24, 64, 5, 10, 16


def metric(name):
    """torch-fidelity's module, without its unused `utils`, which would need torchvision."""
    stub = types.ModuleType("torch_fidelity.utils")
    stub.__getattr__ = lambda name: None
    sys.modules.setdefault("torch_fidelity.utils", stub)
    return importlib.import_module(f"torch_fidelity.metric_{name}")


def blobs(num, size, seed, shade):
    """u8[num, size, size, 3]: smooth fields of color, the darker the smaller `shade`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size][..., None] / size
    waves = rng.uniform(1, 9, (num, 1, 1, 3, 2))
    phase = rng.uniform(0, 6, (num, 1, 1, 3))
    field = np.sin(waves[..., 0] * x + waves[..., 1] * y + phase)
    return np.round((field + 1) * 127.5 * shade).astype(np.uint8)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """(ours, theirs): each pooled and logits of the generated and of the real images."""
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    theirs = RandomNetwork()
    torch.nn.init.normal_(theirs.fc.weight)  # its initial weights are not seeded
    torch.save(theirs.state_dict(), file)
    theirs.features_list = ["2048", "logits_unbiased"]
    ours = inception_features(file)
    apply = jax.jit(ours.apply)
    found, wanted = [], []
    for images in (blobs(NUM, SIZE, 0, 0.9), blobs(NUM, SIZE, 1, 1.0)):
        outputs = apply(ours.variables, images)
        found.append((np.asarray(outputs["pooled"]), np.asarray(outputs["logits"])))
        wanted.append(theirs(torch.from_numpy(images).permute(0, 3, 1, 2)))
    return found, wanted


def relative(ours, theirs):
    return abs(ours - theirs) / abs(theirs)


@pytest.mark.parametrize("size", [32, 64, 256, 299, 320])
def test_resizing_is_the_same_on_the_same_pixels(size, measured):
    images = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), np.uint8)
    pixels = jnp.asarray(images, jnp.float32)
    theirs = reference.interpolate_bilinear_2d_like_tensorflow1x(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(), (299, 299), align_corners=False
    )
    theirs = theirs.permute(0, 2, 3, 1).numpy()
    for how, resize, bound in (
        ("op by op", tensorflow1_bilinear, 0),
        # Multiplying and adding may be one instruction then, which rounds once.
        ("compiled", jax.jit(tensorflow1_bilinear), 1e-4),
    ):
        difference = np.abs(np.asarray(resize(pixels)) - theirs).max()
        measured(f"resizing to 299 {how}, steps of 0..255", FIDELITY, difference, bound)


def test_features(features, measured):
    for ours, theirs in zip(*features, strict=True):
        for name, found, wanted in zip(("pooled", "logits"), ours, theirs, strict=True):
            part = f"features of uint8 images, {name}: difference / RMS"
            measured(part, FIDELITY, relative_to_rms(found, wanted.numpy()), 1e-4)


def test_features_by_torchvisions_layout(tmp_path, measured):
    network = TorchvisionNetwork()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    images = blobs(2, SIZE, 0, 1.0)
    wanted = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    ours = inception_features(tmp_path / "inception.pth", "torchvision")
    found = jax.jit(ours.apply)(ours.variables, images)
    for name, theirs in zip(("pooled", "logits"), wanted, strict=True):
        part = f"features by torchvision's layout, {name}: difference / RMS"
        difference = relative_to_rms(found[name], theirs.numpy())
        measured(part, AGAINST["torchvision"], difference, 1e-4)


def test_inception_score(features, measured):
    # Random weights predict nearly the same for all images; the shift removes what they share.
    logits, theirs = features[0][0][1], features[1][0][1]
    shift, scale = theirs.mean(0), theirs.std(0).mean()
    logits, theirs = (logits - shift.numpy()) / scale.numpy(), (theirs - shift) / scale
    wanted = metric("isc").isc_features_to_metric(theirs, SPLITS)
    score = InceptionScore(NUM, SPLITS)
    for start in range(0, NUM, 7):
        score.add(logits[start : start + 7])
    assert score.result()[0] > 1.2
    for part, value in zip(("mean", "std"), score.result(), strict=True):
        difference = relative(value, wanted[f"inception_score_{part}"])
        measured(f"Inception Score, {part}, relative", FIDELITY, difference, 1e-3)


def test_frechet_distance(features, measured):
    (ours, _), (real, _) = features[0]
    found = frechet_distance(Moments.empty().add(ours), Moments.empty().add(real))
    theirs = metric("fid")
    statistics = [theirs.fid_features_to_statistics(pooled) for pooled, _ in features[1]]
    wanted = theirs.fid_statistics_to_metric(*statistics, verbose=False)
    difference = relative(found, wanted["frechet_inception_distance"])
    measured("FID, relative", FIDELITY, difference, 1e-3)


def test_frechet_distance_by_pytorch_fids_formula(measured):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 64, 64)) / 8
    first, second = (
        rng.normal(size=(300, 64)) @ part + shift
        for part, shift in zip(mixing, (0, 1), strict=True)
    )
    found = frechet_distance(Moments.empty().add(first), Moments.empty().add(second))
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = first.mean(0) - second.mean(0)
    wanted = shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    measured("FID, relative", "pytorch-fid's formula", relative(found, wanted), 1e-9)


def test_kernel_distance(features, measured):
    (ours, _), (real, _) = features[0]
    found = kid.kernel_inception_distance(ours, real, SUBSETS, SUBSET_SIZE)
    wanted = metric("kid").kid_features_to_metric(
        *(pooled.double() for pooled, _ in features[1]),
        kid_subsets=SUBSETS,
        kid_subset_size=SUBSET_SIZE,
        verbose=False,
    )
    for part, value in zip(("mean", "std"), found, strict=True):
        difference = relative(value, wanted[f"kernel_inception_distance_{part}"])
        measured(f"KID, {part}, relative", FIDELITY, difference, 1e-3)


def test_precision_and_recall(features, measured):
    (ours, _), (real, _) = features[0]
    found = precision_recall(ours, real)
    theirs, _ = zip(*features[1], strict=True)
    wanted = metric("prc").prc_features_to_metric(*theirs, verbose=False)
    assert 0 < min(found) and max(found) < 1
    for name, value in zip(("precision", "recall"), found, strict=True):
        measured(f"{name}, relative", FIDELITY, relative(value, wanted[name]), 1e-3)
