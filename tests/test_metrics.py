"""Scores of features with known answers, and how features are collected and cached."""

import io
import urllib.error
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssagan_jax.errors import InputError
from ssagan_jax.evaluation.real_statistics_cache import cached_stats
from ssagan_jax.metrics import inception_weights
from ssagan_jax.metrics.diversity import mean_pairwise_distance
from ssagan_jax.metrics.features import FeatureStats, FeatureSubset, tree_sha256
from ssagan_jax.metrics.fid import Moments, frechet_distance
from ssagan_jax.metrics.inception_features import inception_features, tensorflow1_bilinear
from ssagan_jax.metrics.inception_score import InceptionScore
from ssagan_jax.metrics.kid import kernel_inception_distance, mmd2
from ssagan_jax.metrics.nearest import Nearest
from ssagan_jax.metrics.precision_recall import precision_recall
from ssagan_jax.metrics.retrieval import r_precision, retrieval
from ssagan_jax.steps.pmap import pmap_batched, replicate


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def batches(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def gaussian(mean, covariance, count=100):
    return Moments(count, np.asarray(mean, float), np.asarray(covariance, float) * (count - 1))


def test_moments_do_not_depend_on_batch_size(rng):
    # Far from zero, where a difference of sums of squares would lose its digits.
    rows = np.float32(1e4) + rng.normal(size=(100, 5)).astype(np.float32)
    for size in (1, 7, 100):
        moments = Moments.empty()
        for batch in batches(rows, size):
            moments = moments.add(batch)
        assert moments.count == 100
        np.testing.assert_allclose(moments.mean, rows.astype(float).mean(0), rtol=1e-13)
        np.testing.assert_allclose(moments.covariance, np.cov(rows.astype(float).T), atol=1e-9)


def test_frechet_distance_of_known_gaussians():
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    first = gaussian([1, 2, 3], rotation @ np.diag([1, 4, 9]) @ rotation.T)
    second = gaussian([1, 0, 2], rotation @ np.diag([25, 1, 9]) @ rotation.T)
    # They commute: the squared differences of means and of the roots of the variances.
    assert frechet_distance(first, second) == pytest.approx(0 + 4 + 1 + 16 + 1 + 0, rel=1e-12)


def test_frechet_distance_of_covariances_that_do_not_commute():
    first, second = np.array([[2.0, 1], [1, 3]]), np.array([[1.0, 0.5], [0.5, 4]])
    # The trace of a 2 x 2 root: sqrt(trace + 2 sqrt(determinant)).
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    found = frechet_distance(gaussian([0, 0], first), gaussian([0, 0], second))
    assert found == pytest.approx(np.trace(first + second) - 2 * root, rel=1e-12)


def test_frechet_distance_is_symmetric_and_zero_to_itself(rng):
    # Fewer rows than dimensions, as with 2048 features of few images.
    first, second = (Moments.empty().add(rng.normal(size=(20, 50))) for _ in range(2))
    # Traces are about 50; the rest is the square roots of rounding errors.
    assert abs(frechet_distance(first, first)) < 1e-5
    distance = frechet_distance(first, second)
    assert distance > 1 and distance == pytest.approx(frechet_distance(second, first), rel=1e-7)


def test_one_row_has_no_covariance():
    with pytest.raises(ValueError, match="1 rows"):
        frechet_distance(Moments.empty().add(np.ones((1, 2))), gaussian([0, 0], np.eye(2)))


def inception_score(logits, splits, size=10):
    score = InceptionScore(len(logits), splits)
    for batch in batches(logits, size):
        score.add(batch)
    return score.result()


def test_inception_score_of_uniform_and_of_certain_predictions():
    np.testing.assert_allclose(inception_score(np.zeros((50, 7)), 5), (1, 0), atol=1e-12)
    # Certain of 7 equally frequent classes: the score is their number.
    certain = np.tile(1e4 * np.eye(7), (10, 1))
    assert inception_score(certain, 1) == pytest.approx((7, 0))
    assert inception_score(np.repeat(certain[:1], 20, 0), 2) == pytest.approx((1, 0))


def test_inception_score_is_that_of_its_splits_for_any_batch_size(rng):
    logits = rng.normal(size=(53, 6)) * 3
    order = np.random.RandomState(2020).permutation(53)
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[order]
    wanted = []
    for split in range(4):
        rows = probabilities[split * 53 // 4 : (split + 1) * 53 // 4]
        wanted.append(np.exp((rows * np.log(rows / rows.mean(0))).sum(1).mean()))
    for size in (1, 10, 53):
        found = inception_score(logits, 4, size)
        assert found == pytest.approx((np.mean(wanted), np.std(wanted)), rel=1e-12)


def test_inception_score_of_too_few():
    with pytest.raises(ValueError, match=r"splits=3: must be 1 to 2"):
        InceptionScore(2, 3)
    score = InceptionScore(2, 1)
    score.add(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="1 of 2"):
        score.result()


def test_kernel_distance_of_two_points():
    first, second = np.full((5, 2), 1.0), np.full((5, 2), 3.0)
    # k = (x.y / 2 + 1)^3 of the points: 2^3, 10^3 and 4^3.
    assert mmd2(first, second) == pytest.approx(8 + 1000 - 2 * 64)
    mean, std = kernel_inception_distance(first, second, subsets=3, size=4)
    assert (mean, std) == pytest.approx((880, 0))


def test_kernel_distance_of_equal_distributions_is_unbiased(rng):
    # The biased estimate would be about 0.1 above.
    values = [mmd2(*(rng.normal(size=(20, 4)) for _ in range(2))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20 < 0.06
    moved = mmd2(rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 1)
    assert moved > 1


def test_kernel_distance_is_symmetric_and_its_subsets_are_smaller_for_few_rows(rng):
    few, many = rng.normal(size=(30, 3)), rng.normal(size=(80, 3)) + 0.5
    mean, std = kernel_inception_distance(few, few + 1, subsets=5, size=30)
    assert mean == pytest.approx(mmd2(few, few + 1)) and std < 1e-12
    assert mmd2(few, few + 1) == pytest.approx(mmd2(few + 1, few))
    # Subsets of 15, half of the smaller array.
    assert kernel_inception_distance(few, many) == kernel_inception_distance(few, many, size=15)
    with pytest.raises(ValueError, match="size=1: must be 2 to 3 rows"):
        kernel_inception_distance(few[:3], many)


def test_precision_and_recall_of_equal_disjoint_and_collapsed_sets(rng):
    real = rng.normal(size=(1100, 4))  # More than a block.
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real + 100, real) == (0, 0)
    # All generated images are close to one real image.
    precision, recall = precision_recall(real[:1] + 1e-3 * rng.normal(size=(50, 4)), real)
    assert precision == 1 and recall < 0.01


def test_precision_and_recall_count_balls_to_the_kth_neighbor():
    real = np.array([[0.0], [1], [2], [10]])
    # Radii with k = 1: 1, 1, 1 and 8.
    generated = np.array([[-1.5], [0.5], [2.9], [3.5], [17]])
    # Radii of those: 2, 2, 0.6, 0.6 and 13.5.
    assert precision_recall(generated, real, neighbors=1) == (4 / 5, 4 / 4)
    assert precision_recall(generated[:1].repeat(2, 0), real, neighbors=1) == (0, 0)


def test_r_precision_of_perfect_random_and_constant_encoders(rng):
    codes = rng.normal(size=(2000, 16))
    classes, pool, pool_classes = np.arange(2000) % 50, codes[:500], np.arange(500) % 50
    assert r_precision(codes, codes, classes, pool, pool_classes) == 1
    chance = r_precision(codes, rng.normal(size=(2000, 16)), classes, pool, pool_classes)
    assert abs(chance - 0.01) < 3 * np.sqrt(0.01 * 0.99 / 2000)
    # Equal similarities of all pairs are at chance level too.
    same = np.ones((2000, 16))
    constant = r_precision(same, same, classes, same[:500], pool_classes)
    assert constant == pytest.approx(0.01)


def test_r_precision_draws_from_other_classes_only():
    codes, classes = np.eye(4), np.array([0, 0, 1, 1])
    pool = np.tile(codes[:1], (4, 1))  # Captions of class 0 that fit its images too.
    assert r_precision(codes[:1], codes[:1], classes[:1], pool, np.array([0, 0, 0, 1])) == 0.5
    pool[3] = codes[3]
    assert r_precision(codes[:1], codes[:1], classes[:1], pool, np.array([0, 0, 0, 1])) == 1
    with pytest.raises(ValueError, match="class 0 is the only one"):
        r_precision(codes[:1], codes[:1], classes[:1], pool, np.zeros(4, int))


def test_retrieval_of_perfect_shifted_and_constant_encoders():
    codes = np.eye(8)
    perfect = {"retrieval/r1": 1, "retrieval/r5": 1, "retrieval/mean_rank": 1}
    assert retrieval(3 * codes, codes) == perfect
    # Every caption prefers the next two images to its own.
    sentences = codes + 2 * np.roll(codes, 1, 1) + 3 * np.roll(codes, 2, 1)
    assert retrieval(codes, sentences) == {
        "retrieval/r1": 0,
        "retrieval/r5": 1,
        "retrieval/mean_rank": 3,
    }
    constant = retrieval(np.ones((8, 4)), np.ones((8, 4)))
    assert constant == pytest.approx(
        {"retrieval/r1": 1 / 8, "retrieval/r5": 5 / 8, "retrieval/mean_rank": 4.5}
    )


def test_scores_of_nan_are_nan():
    nan = np.full((6, 3), np.nan)
    assert all(map(np.isnan, retrieval(nan, nan).values()))
    assert np.isnan(r_precision(nan, nan, np.arange(6), nan, np.arange(6)))
    assert np.isnan(frechet_distance(Moments.empty().add(nan), gaussian([0] * 3, np.eye(3))))


def test_diversity_is_the_mean_distance_of_pairs():
    square = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    wanted = (4 + 2 * np.sqrt(2)) / 6
    assert mean_pairwise_distance(square[None]) == pytest.approx(wanted)
    same = np.zeros((1, 4, 2))
    assert mean_pairwise_distance(np.concatenate([square[None], same])) == pytest.approx(wanted / 2)
    with pytest.raises(ValueError, match="2 or more images"):
        mean_pairwise_distance(square[:, None])


def test_the_nearest_image_does_not_depend_on_batch_size():
    training = np.array([[1.0, 0], [0, 1], [-1, 0], [3, 4]])
    for size in (1, 4):
        nearest = Nearest(np.array([[2.0, 0], [3, 4.1], [-1, 1]]))
        for codes, names in zip(batches(training, size), batches(list("abcd"), size), strict=True):
            nearest.add(codes, names)
        assert nearest.names.tolist() == ["a", "d", "b"]
        assert abs(nearest.distances[0]) < 1e-12 and 0 < nearest.distances[1] < 1e-3
        assert nearest.distances[2] == pytest.approx(1 - np.sqrt(0.5))


def test_a_subset_is_spread_evenly_for_any_batch_size():
    rows = np.arange(11)
    for size in (1, 4, 11):
        for limit, wanted in ((3, [0, 3, 7]), (11, rows), (20, rows)):
            subset = FeatureSubset(11, limit)
            for batch in batches(rows, size):
                subset.add(batch)
            np.testing.assert_array_equal(subset.rows(), wanted)


def test_rows_do_not_depend_on_batch_size_or_devices(rng, monkeypatch):
    images = rng.integers(0, 256, (11, 4, 4, 3)).astype(np.uint8)
    weights = {"kernel": rng.normal(size=(48, 5)).astype(np.float32)}

    def features(variables, rows):
        flat = rows["image"].reshape(rows["image"].shape[0], -1)
        return {"features": jnp.tanh(flat.astype(jnp.float32) @ variables["kernel"] / 255)}

    wanted = np.tanh(images.reshape(11, -1) / 255 @ weights["kernel"])
    devices = jax.local_devices()
    for count in (1, 2, 4):
        monkeypatch.setattr(jax, "devices", lambda count=count: devices[:count])
        for size in (3, 8):
            run, variables = pmap_batched(features, size), replicate(weights)
            # The last batch is smaller than the others.
            found = [run(variables, {"image": rows})["features"] for rows in batches(images, size)]
            found += [run(variables, {"image": images})["features"]]  # More than a batch at once.
            np.testing.assert_allclose(np.concatenate(found), np.tile(wanted, (2, 1)), atol=1e-5)


def test_the_hash_of_weights_depends_on_names_values_and_types_alone():
    weights = {"a": np.arange(3.0), "b": np.zeros(2)}
    assert tree_sha256(weights) == tree_sha256({"b": np.zeros(2), "a": np.arange(3.0)})
    others = ({"a": np.arange(3.0), "c": np.zeros(2)}, weights | {"b": np.zeros(2, np.float32)})
    assert tree_sha256(weights) not in map(tree_sha256, others)


def test_real_statistics_are_computed_once(rng, monkeypatch, tmp_path):
    monkeypatch.setenv("SSAGAN_CACHE", str(tmp_path))
    rows = rng.normal(size=(9, 3)).astype(np.float32)
    compute = mock.Mock(side_effect=lambda: batches(rows, 4))
    recipe = {"pixels": "abc", "weights_sha256": "def"}
    first, second = (cached_stats(recipe, 9, compute) for _ in range(2))
    assert compute.call_count == 1
    assert frechet_distance(first.moments, second.moments) < 1e-6
    assert second.moments.count == 9
    np.testing.assert_array_equal(second.features, rows)
    cached_stats(recipe | {"pixels": "xyz"}, 9, compute)
    assert compute.call_count == 2 and len(list(tmp_path.rglob("*.npz"))) == 2
    # A cache that cannot be written is not needed.
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSAGAN_CACHE", str(tmp_path / "file"))
    assert isinstance(cached_stats(recipe, 9, compute), FeatureStats) and compute.call_count == 3


def test_resizing_is_tensorflow_1s():
    ramp = jnp.tile(jnp.asarray([0.0, 8.0])[None, :, None, None], (1, 1, 2, 3))
    # Pixel i is at i * 2 / 4; beyond the last pixel its value is repeated.
    found = tensorflow1_bilinear(ramp, 4)
    np.testing.assert_array_equal(found[0, :, 0, 0], [0, 4, 8, 8])
    np.testing.assert_array_equal(found[0, 1], np.full((4, 3), 4))
    smaller = tensorflow1_bilinear(jnp.arange(36.0).reshape(1, 6, 6, 1).repeat(3, -1), 3)
    np.testing.assert_array_equal(smaller[0, :, :, 0], [[0, 2, 4], [12, 14, 16], [24, 26, 28]])


def test_a_file_without_inception_weights_is_rejected(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"Inception weights '.*weights\.pth'"):
        inception_features(tmp_path / "weights.pth")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SSAGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_weights_are_a_file_or_those_in_the_cache(cache, monkeypatch):
    assert inception_weights.find_weights("") is None
    with pytest.raises(InputError, match=r"'no\.pth': there is no such file; fetch https://.*6726"):
        inception_weights.find_weights("no.pth")
    file = cache / "weights-inception-2015-12-05-6726825d.pth"
    cache.mkdir()
    file.write_bytes(b"any")
    assert inception_weights.find_weights(str(file)) == file
    with pytest.raises(InputError, match="does not begin with 6726825d"):
        inception_weights.find_weights("")
    monkeypatch.setattr(inception_weights, "SHA256_PREFIX", inception_weights.file_sha256(file)[:8])
    assert inception_weights.find_weights("") == file
    assert inception_weights.find_weights("download") == file


def test_a_download_is_verified_and_cached(cache, monkeypatch):
    urlopen = mock.Mock(side_effect=lambda *_, **__: io.BytesIO(b"published"))
    monkeypatch.setattr(inception_weights.urllib.request, "urlopen", urlopen)
    with pytest.raises(InputError, match=r"SHA-256 \w+ does not begin.*To do it by hand, fetch"):
        inception_weights.find_weights("download")
    assert [call.args[0] for call in urlopen.call_args_list] == list(inception_weights.URLS)
    assert not list(cache.iterdir())
    # SHA-256 of b"published".
    monkeypatch.setattr(inception_weights, "SHA256_PREFIX", "b04e5ea2")
    file = inception_weights.find_weights("download")
    assert file.read_bytes() == b"published" and list(cache.iterdir()) == [file]


def test_without_a_network_the_error_names_urls_and_paths(cache, monkeypatch):
    urlopen = mock.Mock(side_effect=urllib.error.URLError("Name or service not known"))
    monkeypatch.setattr(inception_weights.urllib.request, "urlopen", urlopen)
    with pytest.raises(InputError) as caught:
        inception_weights.find_weights("download")
    message = str(caught.value)
    for url in inception_weights.URLS:
        assert url in message and str(cache / url.rpartition("/")[2]) in message
    assert "Name or service not known" in message and "--inception_weights=FILE" in message
    assert not list(cache.rglob("*.part"))
