"""Batches: crops, captions, order, and a position that can be saved."""

import json

import grain
import jax
import numpy as np
import pytest
from counted_source import CountedSource, encoded

from ssagan_jax.data import pipeline
from ssagan_jax.data.captions import mirror_caption
from ssagan_jax.data.device_images import load_device_images
from ssagan_jax.data.images.crop_and_flip import apply_crop, central_crop, draw_crop
from ssagan_jax.data.pipeline import (
    CaptionedImages,
    concatenate_batches,
    evaluation_batches,
    training_batches,
)
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.errors import DataError
from ssagan_jax.steps.networks import crop_images

HEIGHT, WIDTH, SIZE, COUNT = 19, 24, 16, 10
CAPTIONS = [f"number{n} {side}" for n in range(COUNT) for side in ("first", "second", "third")]


def picture(number):
    """Red is the picture's number, green the column and blue the row."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = number
    image[..., 1] = np.arange(WIDTH)
    image[..., 2] = np.arange(HEIGHT)[:, None]
    return image


def example(number):
    captions = CAPTIONS[3 * number : 3 * number + 3]
    return encoded(number, picture(number), captions, COUNT - 1 - number)


class Source(CountedSource):
    def __init__(self, count=COUNT):
        super().__init__(count, example)


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer("words", CAPTIONS, 1000)


@pytest.fixture(scope="module")
def pictures():
    return CaptionedImages(Source(), cache_mb=1)


def batches(pictures, tokenizer, seed=0, flip=True, batch_size=4, **kwargs):
    return training_batches(
        pictures,
        tokenizer,
        image_size=SIZE,
        max_words=3,
        random_flip=flip,
        batch_size=batch_size,
        seed=seed,
        **kwargs,
    )


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_equal(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def numbers(batch):
    return batch["image"][:, 0, 0, 0].tolist()


def test_random_crop_takes_every_place_and_mirrors_half():
    image, rng = picture(1), np.random.default_rng(0)
    crops = [apply_crop(image, SIZE, draw_crop(image.shape, SIZE, True, rng)) for _ in range(600)]
    mirrored = [crop[0, 0, 1] > crop[0, -1, 1] for crop in crops]
    places = {(crop[0, 0, 2], min(crop[0, 0, 1], crop[0, -1, 1])) for crop in crops}
    assert places == {(y, x) for y in range(HEIGHT - SIZE + 1) for x in range(WIDTH - SIZE + 1)}
    assert 0.4 < np.mean(mirrored) < 0.6
    for crop, flip in zip(crops[:20], mirrored[:20], strict=True):
        left, top = min(crop[0, 0, 1], crop[0, -1, 1]), crop[0, 0, 2]
        wanted = image[top : top + SIZE, left : left + SIZE]
        np.testing.assert_array_equal(crop, wanted[:, ::-1] if flip else wanted)


def test_central_crop_is_the_middle():
    crop = central_crop(picture(1), SIZE)
    np.testing.assert_array_equal(crop, picture(1)[1 : 1 + SIZE, 4 : 4 + SIZE])
    exact = picture(1)[:SIZE, :SIZE]
    np.testing.assert_array_equal(central_crop(exact, SIZE), exact)


def test_devices_crop_the_same_images_as_the_host(pictures, tokenizer):
    images = load_device_images(pictures, 1)
    assert images.shape == (len(pictures), HEIGHT, WIDTH, 3)
    host = take(batches(pictures, tokenizer), 12)
    device = take(batches(pictures, tokenizer, crops_only=True), 12)
    for batch in device:
        crops = batch.pop("crop")
        assert crops.dtype == np.int32 and crops.shape == (4, 4)
        batch["image"] = np.asarray(jax.jit(crop_images, static_argnums=2)(images, crops, SIZE))
    assert_equal(device, host)


@pytest.mark.parametrize("crops_only", [False, True])
def test_further_captions_of_each_image(pictures, tokenizer, crops_only):
    plain = take(batches(pictures, tokenizer, crops_only=crops_only), 12)
    several = take(batches(pictures, tokenizer, crops_only=crops_only, num_captions=5), 12)
    seen = set()
    for batch in several:
        tokens, mask = batch.pop("all_tokens"), batch.pop("all_mask")
        assert tokens.shape == mask.shape == (4, 5, 3) and mask.dtype == bool
        np.testing.assert_array_equal(tokens[:, 0], batch["tokens"])
        np.testing.assert_array_equal(mask[:, 0], batch["mask"])
        np.testing.assert_array_equal(tokens[:, 3:], tokens[:, :2])  # Only three are different.
        found = batch["crop"][:, 0] if crops_only else numbers(batch)
        for rows, number in zip(tokens, found, strict=True):
            captions = CAPTIONS[3 * number : 3 * number + 3]
            wanted = [tuple(tokenizer.encode(caption, 3)[0]) for caption in captions]
            assert sorted(map(tuple, rows[:3])) == sorted(wanted)
            seen.add(wanted.index(tuple(rows[0])))
    assert seen == {0, 1, 2}
    assert_equal(several, plain)


def faces_left(number):
    return encoded(number, picture(number), ["It faces Left."], number)


def test_the_caption_of_a_mirrored_image_exchanges_left_and_right():
    tokenizer = learn_tokenizer("words", ["it faces left", "it faces right"], 1000)
    images = CaptionedImages(CountedSource(COUNT, faces_left))
    seen = take(batches(images, tokenizer, num_captions=2), 12)
    sides = [set(), set()]
    for batch in seen:
        for image, tokens in zip(batch["image"], batch["all_tokens"], strict=True):
            sides[int(image[0, 0, 1] > image[0, -1, 1])].update(tokens[:, 2])
    assert sides == [set(tokenizer.ids("left")), set(tokenizer.ids("right"))]


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("A left-hand wheel, its LEFT lamp", "A right-hand wheel, its Right lamp"),
        ("Rightmost of two, facing leftwards", "Leftmost of two, facing rightwards"),
        ("leftovers are bright", "leftovers are bright"),
    ],
)
def test_only_whole_words_of_sides_are_exchanged(caption, mirrored):
    assert mirror_caption(caption) == mirrored


def ragged_example(number):
    pixels = picture(number + 1)[: SIZE + number, : WIDTH - number]
    return encoded(number, pixels, [f"number {number}"], number)


def test_images_that_do_not_fit_stay_on_the_host(pictures):
    assert load_device_images(pictures, 0) is None
    assert load_device_images(pictures, -1) is None  # On a CPU, whose memory it is anyway.
    ragged = CaptionedImages(CountedSource(3, ragged_example))
    images = load_device_images(ragged, 1)
    for index, padded in enumerate(images):
        height, width, _ = ragged[index]["image"].shape
        np.testing.assert_array_equal(padded[:height, :width], ragged[index]["image"])
        assert not padded[height:].any() and not padded[:, width:].any()


def test_a_batch_has_its_shapes_and_types(pictures, tokenizer):
    batch = next(batches(pictures, tokenizer))
    assert {name: (part.dtype.name, part.shape) for name, part in batch.items()} == {
        "image": ("uint8", (4, SIZE, SIZE, 3)),
        "tokens": ("int32", (4, 3)),
        "mask": ("bool", (4, 3)),
        "class_id": ("int32", (4,)),
    }


def test_image_caption_and_class_belong_together(pictures, tokenizer):
    known = {tokenizer.ids(f"number{number}")[0]: number for number in range(COUNT)}
    seen = set()
    for batch in take(batches(pictures, tokenizer), 40):
        assert [known[token] for token in batch["tokens"][:, 0]] == numbers(batch)
        assert [number % 3 for number in numbers(batch)] == batch["class_id"].tolist()
        np.testing.assert_array_equal(batch["mask"], [[True, True, False]] * 4)
        seen.update(map(tuple, batch["tokens"].tolist()))
    assert len(seen) == len(CAPTIONS)


def test_shards_are_consecutive_rows_of_large_batches_then_of_batches(pictures, tokenizer):
    large = (2, 3)  # Two steps of three batches, then steps of one.
    whole = batches(pictures, tokenizer, large_batches=large)
    shards = [batches(pictures, tokenizer, large_batches=large, shard=(i, 2)) for i in (0, 1)]
    for count in (3, 3, 1, 1):
        wanted = concatenate_batches(take(whole, count))
        assert len(wanted["image"]) == 4 * count
        parts = [concatenate_batches(take(shard, count)) for shard in shards]
        assert_equal([concatenate_batches(parts)], [wanted])
    position = shards[1].get_state()
    following = take(shards[1], 2)
    shards[1].set_state(position)
    assert_equal(take(shards[1], 2), following)


def test_the_seed_decides_the_batches(pictures, tokenizer):
    first = take(batches(pictures, tokenizer, seed=1), 4)
    assert_equal(first, take(batches(pictures, tokenizer, seed=1), 4))
    other = take(batches(pictures, tokenizer, seed=2), 4)
    assert [numbers(batch) for batch in other] != [numbers(batch) for batch in first]


def test_every_picture_comes_once_an_epoch_and_in_another_order_in_the_next(pictures, tokenizer):
    order = sum(map(numbers, take(batches(pictures, tokenizer), 5)), [])
    first, second = order[:COUNT], order[COUNT:]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second and first != sorted(first)


def test_an_image_is_cropped_differently_in_each_epoch(pictures, tokenizer):
    crops = {number: set() for number in range(COUNT)}
    for batch in take(batches(pictures, tokenizer), 20):
        for number, image in zip(numbers(batch), batch["image"], strict=True):
            crops[number].add(image.tobytes())
    assert min(map(len, crops.values())) >= 6


def test_flips_off_reach_the_batches(pictures, tokenizer):
    for flip in (False, True):
        taken = take(batches(pictures, tokenizer, flip=flip), 12)
        columns = np.concatenate([batch["image"][:, 0, :, 1] for batch in taken]).astype(int)
        assert set(np.diff(columns).ravel()) == ({-1, 1} if flip else {1})


def test_a_restored_position_continues_exactly(pictures, tokenizer):
    iterator = batches(pictures, tokenizer)
    take(iterator, 4)  # In the middle of the second epoch.
    position = json.loads(json.dumps(iterator.get_state()))
    wanted = take(iterator, 5)
    fresh = batches(pictures, tokenizer)
    fresh.set_state(position)
    assert_equal(take(fresh, 5), wanted)


def test_nothing_depends_on_the_number_of_threads(pictures, tokenizer, monkeypatch):
    wanted = take(batches(pictures, tokenizer), 6)
    for threads in (0, 1, 5):
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        monkeypatch.setattr(pipeline, "READ_OPTIONS", reading)
        assert_equal(take(batches(pictures, tokenizer), 6), wanted)


def test_fewer_pictures_than_a_batch_are_refused(pictures, tokenizer):
    with pytest.raises(DataError, match=r"10 training pictures .*batch_size=11; add"):
        batches(pictures, tokenizer, batch_size=COUNT + 1)
    assert len(numbers(next(batches(pictures, tokenizer, batch_size=COUNT)))) == COUNT


def test_the_cache_reads_once_what_fits_its_budget():
    # Pictures of half a MiB and a little: one fits into 1 MiB, the others are read each time.
    large = np.zeros((420, 420, 3), np.uint8)
    source = CountedSource(3, lambda number: encoded(number, large, ["large"], number))
    pictures = CaptionedImages(source, cache_mb=1)
    for _ in range(2):
        assert [record["class_id"] for record in pictures] == [0, 1, 2]
    assert source.read == [0, 1, 2, 1, 2]


class Rotten(Source):
    """Of which the second picture is cut short, and the third cannot be read at all."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        if index == 2:
            raise RuntimeError("the file is damaged")
        return example | {"image": example["image"][:60]} if index == 1 else example


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_picture_that_cannot_be_read_is_named_or_skipped(tmp_path, capsys, tokenizer, on_disk):
    (tmp_path / "dataset_info.json").touch()
    disk = {"file": tmp_path / "decoded.u8", "disk_mb": 1} if on_disk else {}
    with pytest.raises(
        DataError, match=r"the split: picture [12] of 10 cannot be read .*bad_images='skip'"
    ):
        list(CaptionedImages(Rotten(), **disk))
    pictures = CaptionedImages(Rotten(), bad_images="skip", **disk)
    records, taken = list(pictures), [0, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    assert [record["image"][0, 0, 0] for record in records] == taken
    assert [record["name"] for record in records] == [f"{COUNT - 1 - n:05d}" for n in taken]
    output = capsys.readouterr().out
    assert output.count("picture 1 of 10 cannot be read") == 1
    assert output.count("picture 2 of 10 cannot be read (the file is damaged)") == 1
    assert "(2 skipped so far)" in output
    seen = take(batches(pictures, tokenizer, batch_size=5), 2)
    assert sorted(sum(map(numbers, seen), [])) == taken


def test_no_picture_that_can_be_read_is_an_error():
    class Empty(Source):
        def __getitem__(self, index):
            raise RuntimeError("no disk")

    with pytest.raises(DataError, match="none of 10 pictures can be read"):
        CaptionedImages(Empty(), bad_images="skip")[0]


def test_a_picture_out_of_range_ends_an_iteration(pictures):
    assert len(list(pictures)) == len(pictures) == COUNT
    for index in (COUNT, -1):
        with pytest.raises(IndexError, match=f"record {index} of {COUNT}"):
            pictures[index]


def test_evaluation_goes_by_name_with_first_captions_and_central_crops(pictures, tokenizer):
    parts = list(
        evaluation_batches(pictures, tokenizer, image_size=SIZE, max_words=3, batch_size=4)
    )
    assert [len(records) for _, records in parts] == [4, 4, 2]
    records = sum((records for _, records in parts), [])
    # Names count down where the pictures' numbers count up.
    assert [record["name"] for record in records] == [f"{n:05d}" for n in range(COUNT)]
    assert sum((numbers(batch) for batch, _ in parts), []) == list(range(COUNT))[::-1]
    for batch, records in parts:
        for row, record in enumerate(records):
            np.testing.assert_array_equal(batch["image"][row], central_crop(record["image"], SIZE))
            tokens, mask = tokenizer.encode(record["captions"][0], 3)
            np.testing.assert_array_equal(batch["tokens"][row], tokens)
            np.testing.assert_array_equal(batch["mask"][row], mask)
            assert batch["class_id"][row] == record["class_id"]
        assert batch["class_id"].dtype == np.int32
