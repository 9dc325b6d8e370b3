"""The birds layout on disk, read through a prepared TFDS set."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from picture_trees import Evil, write
from PIL import Image

from ssagan_jax.config import default_config, set_dataset
from ssagan_jax.data.birds import Birds
from ssagan_jax.data.datasets import open_datasets
from ssagan_jax.data.images.open_image import open_image
from ssagan_jax.data.images.resizing import crop_to_box, resize_smaller_edge
from ssagan_jax.data.prepared import builder as builder_module
from ssagan_jax.data.prepared.builder import CaptionedImageBuilder
from ssagan_jax.data.prepared.set_writer import ensure_prepared
from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.errors import DataError

COLORS = {"RGB": (200, 40, 40), "L": 90, "CMYK": (0, 255, 255, 0)}
TRAIN = ["007.Wren/a", "007.Wren/grey", "009.Owl/cmyk", "009.Owl/palette"]
TEST = ["009.Owl/alpha", "008.Finch/b"]


def draw(path, mode="RGB"):
    """Writes a 120 x 80 picture: the left half in one colour, the right half white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode in COLORS:
        image = Image.new(mode, (120, 80), {"L": 255, "CMYK": (0, 0, 0, 0)}.get(mode, "white"))
        image.paste(COLORS[mode], (0, 0, 60, 80))
        image.save(path, format="JPEG", quality=95)
        return
    image = Image.new("RGBA", (120, 80), (10, 20, 30, 0))
    image.paste((30, 160, 60, 255), (0, 0, 60, 80))
    if mode == "P":
        image = image.quantize(4)
    image.save(path, format="PNG")


def write_birds(root):
    """Writes six photos of three species; the first one's box is 40 x 20 pixels at (20, 30)."""
    modes = dict(zip(TRAIN + TEST, ["RGB", "L", "CMYK", "P", "RGBA", "RGB"], strict=True))
    boxes, photos = [], []
    for number, (name, mode) in enumerate(modes.items(), start=1):
        draw(root / f"CUB_200_2011/images/{name}.jpg", mode)
        text = f"A {mode} Bird, on a white ground.\r\n\n  \nit's \xe9! {name}\n"
        write(root / f"text/{name}.txt", "").write_bytes(text.encode())
        boxes.append(f"{number} 20.0 30.0 {40 if number == 1 else 400}.0 20.0")
        photos.append(f"{number} {name}.jpg")
    (root / "CUB_200_2011/bounding_boxes.txt").write_text("\n".join(boxes))
    (root / "CUB_200_2011/images.txt").write_text("\n".join(reversed(photos)))
    for folder, names, numbers in (("train", TRAIN, [7, 7, 9, 9]), ("test", TEST, [9, 8])):
        write(root / folder / "filenames.pickle", names)
        write(root / folder / "class_info.pickle", numbers)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    source = write_birds(folder / "source")
    return ensure_prepared(Birds(source=str(source), image_size=64, data_dir=folder / "tfds"))


@pytest.fixture
def source(tmp_path):
    return write_birds(tmp_path / "source")


def examples(source, split="train", **kw):
    """Returns the examples of a split as the source yields them, without preparing a set."""
    builder = Birds(source=str(source), image_size=64, data_dir=source.parent / "tfds", **kw)
    Path(builder.data_dir).mkdir(parents=True, exist_ok=True)
    return [example for _, example in builder._generate_examples(split)]


def by_name(builder, split):
    return {example["name"].decode(): example for example in builder.as_data_source(split)}


def test_a_prepared_set_holds_photos_sentences_and_one_id_per_class_in_both_splits(prepared):
    train, validation = by_name(prepared, "train"), by_name(prepared, "validation")
    assert sorted(train) == sorted(TRAIN) and sorted(validation) == sorted(TEST)
    assert prepared.info.splits["train"].num_examples == 4
    assert prepared.info.file_format == tfds.core.FileFormat.ARRAY_RECORD
    assert [caption.decode() for caption in train["007.Wren/grey"]["captions"]] == [
        "A L Bird, on a white ground.",
        "it's \xe9! 007.Wren/grey",
    ]
    assert [int(train[name]["class_id"]) for name in TRAIN] == [0, 0, 2, 2]
    assert [int(validation[name]["class_id"]) for name in TEST] == [2, 1]
    assert train[TRAIN[0]]["attributes"] == b"{}"


def test_classes_come_from_the_species_folders_without_class_info(source):
    (source / "test/class_info.pickle").unlink()
    assert [example["class_id"] for example in examples(source)] == [0, 0, 2, 2]
    assert [example["class_id"] for example in examples(source, "validation")] == [2, 1]


def test_every_kind_of_picture_becomes_rgb_on_white(prepared):
    examples = by_name(prepared, "train") | by_name(prepared, "validation")
    for name, color in {
        "007.Wren/a": (200, 40, 40),
        "007.Wren/grey": (90, 90, 90),
        "009.Owl/cmyk": (255, 0, 0),
        "009.Owl/palette": (30, 160, 60),
        "009.Owl/alpha": (30, 160, 60),
    }.items():
        image = examples[name]["image"]
        assert image.dtype == np.uint8 and min(image.shape[:2]) == 76
        np.testing.assert_allclose(image[38, 3], color, atol=3, err_msg=name)
        np.testing.assert_allclose(image[38, -3], 255, atol=3, err_msg=name)


def test_photos_are_cropped_around_their_boxes(prepared):
    # Box 40 x 20 at (20, 30): centre (40, 40), reach 30, so x 10..70 and y 10..70. The photo
    # turns white at x = 60, which comes to lie at (60 - 10) * 76 / 60 = 63.
    image = by_name(prepared, "train")["007.Wren/a"]["image"]
    assert image.shape == (76, 76, 3)
    assert image[38, 60, 1] < 100 and image[38, 66, 1] > 200
    # A box far wider than the photo leaves it whole: 120 x 80 scaled by 76 / 80.
    assert by_name(prepared, "train")["007.Wren/grey"]["image"].shape == (76, 114, 3)


def test_crop_to_box_by_number():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 3))
    cropped = np.asarray(crop_to_box(Image.fromarray(ramp.copy()), (50, 120, 21, 10)))
    # Reach int(15.75) = 15 around (60, 125).
    assert cropped.shape == (30, 30, 3) and cropped[0, 0, 0] == 110 and cropped[-1, 0, 0] == 139
    with pytest.raises(DataError, match="outside the picture"):
        crop_to_box(Image.new("RGB", (20, 20)), (100, 100, 4, 4))


def test_without_boxes_the_whole_photo_is_kept(source):
    (source / "CUB_200_2011/bounding_boxes.txt").unlink()
    assert Image.open(examples(source)[0]["image"]).size == (114, 76)


def test_the_config_decides_where_decoded_images_are_cached(prepared):
    config = set_dataset(default_config(), "birds")
    config.data.dir, config.data.prepared_dir = prepared.source, str(prepared.data_dir_root)
    config.data.image_size = 64
    cached = open_datasets(config)
    config.data.cache_mb = config.data.cache_disk_mb = 0
    decoded = open_datasets(config)
    folder = Path(prepared.data_dir)
    assert not list(folder.glob("decoded-*"))
    config.data.cache_disk_mb = 64
    mapped = open_datasets(config, ["validation"])
    assert list(mapped) == ["validation"]
    assert [file.name for file in folder.glob("decoded-*.u8")] == ["decoded-validation-76px.u8"]
    ways = [sets["validation"] for sets in (cached, decoded, mapped)]
    for one, other, third in zip(*ways, strict=True):
        np.testing.assert_array_equal(one["image"], third["image"])
        np.testing.assert_array_equal(other["image"], third["image"])
        assert {**one, "image": 0} == {**other, "image": 0} == {**third, "image": 0}
    # TFDS reads the set as before.
    assert len(by_name(prepared, "validation")) == len(mapped["validation"])


def test_reading_a_prepared_set_leaves_tensorflow_out(prepared):
    script = (
        "import pickle, sys\n"
        "import tensorflow_datasets as tfds\n"
        "from ssagan_jax.data.birds import Birds\n"
        "from ssagan_jax.data.prepared.set_writer import ensure_prepared\n"
        "source, data_dir = sys.argv[1:]\n"
        "birds = ensure_prepared(Birds(source=source, image_size=64, data_dir=data_dir))\n"
        "data = pickle.loads(pickle.dumps(birds.as_data_source('train')))\n"
        "copy = tfds.builder_from_directory(birds.data_dir).as_data_source('train')\n"
        "assert len(data) == 4 and (data[1]['image'] == copy[1]['image']).all()\n"
        "assert 'tensorflow' not in sys.modules, 'tensorflow was imported'\n"
    )
    command = [sys.executable, "-c", script, prepared.source, prepared.data_dir_root]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_source_size_and_policy_determine_the_folder(prepared, source):
    def folder(**changes):
        arguments = dict(source=prepared.source, image_size=64, data_dir=prepared.data_dir_root)
        return Birds(**{**arguments, **changes}).data_dir

    folders = {folder(), folder(image_size=128), folder(bad_images="skip")}
    folders.add(folder(source=str(source)))
    (source / "text/007.Wren/a.txt").write_text("another sentence")
    folders.add(folder(source=str(source)))
    assert len(folders) == 5 and folder() == prepared.data_dir
    copy = pickle.loads(pickle.dumps(prepared))
    assert (copy.source, copy.data_dir) == (prepared.source, prepared.data_dir)


def test_a_set_that_another_process_prepared_meanwhile_is_read(prepared, tmp_path):
    early = Birds(source=prepared.source, image_size=64, data_dir=tmp_path)
    shutil.copytree(prepared.data_dir, early.data_dir)
    assert len(ensure_prepared(early).as_data_source("train")) == 4


def test_an_interrupted_preparation_leaves_no_set(source, capfd):
    shutil.copy(source / "CUB_200_2011/images.txt", source / "CUB_200_2011/images/008.Finch/b.jpg")
    birds = Birds(source=str(source), image_size=64, data_dir=source.parent / "tfds")
    folder = Path(birds.data_dir)
    # What a process that was killed leaves behind.
    left = folder.with_name(f".part-{folder.name}")
    (left / f"birds/incomplete.ABCDEF_{folder.name}").mkdir(parents=True)
    with pytest.raises(DataError, match="008.Finch/b.*not a picture.*bad_images='skip'"):
        ensure_prepared(birds)
    assert os.listdir(folder.parent) == [f".lock-{folder.name}"]
    assert not birds.is_prepared()

    capfd.readouterr()
    arguments = dict(source=str(source), image_size=64, data_dir=source.parent / "tfds")
    skipping = Birds(**arguments, bad_images="skip")
    assert list(by_name(ensure_prepared(skipping), "validation")) == ["009.Owl/alpha"]
    printed, logged = capfd.readouterr()
    assert printed.splitlines() == [
        f"preparing {source} -> {skipping.data_dir}",
        "skipped 1 pictures: 008.Finch/b",
        "4 train, 1 validation pictures",
    ]
    assert logged == ""


def test_a_full_disk_is_named(source, monkeypatch):
    full = shutil._ntuple_diskusage(total=1, used=1, free=2**20)
    monkeypatch.setattr(builder_module.shutil, "disk_usage", lambda path: full)
    birds = Birds(source=str(source), image_size=64, data_dir=source.parent / "tfds")
    with pytest.raises(DataError, match="no room .*1 MiB free.*prepared_dir"):
        ensure_prepared(birds)
    assert not Path(birds.data_dir).exists()


@pytest.mark.parametrize(
    "missing", ["", "CUB_200_2011/images", "text", "train/filenames.pickle", "test"]
)
def test_a_missing_part_of_the_layout_is_named(source, missing):
    path = source / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    message = f"{path}.*no such file.*Expected are.*point config.data.dir"
    with pytest.raises(DataError, match=message):
        examples(source)


def test_boxes_need_their_list_of_photos(source):
    boxes = source / "CUB_200_2011/bounding_boxes.txt"
    boxes.write_text("1 10 30 40 20")
    with pytest.raises(DataError, match=f"no box for {TRAIN[1]}"):
        examples(source)
    boxes.write_text("1 10 30 40 20\n2 10 30 forty 20")
    with pytest.raises(DataError, match="line 2: .*forty"):
        examples(source)
    (source / "CUB_200_2011/images.txt").unlink()
    with pytest.raises(DataError, match="images.txt: missing"):
        examples(source)


def test_bad_photos_stop_the_preparation_or_are_skipped(source):
    photo = source / f"CUB_200_2011/images/{TRAIN[0]}.jpg"
    photo.write_bytes(photo.read_bytes()[:-30])
    (source / f"CUB_200_2011/images/{TRAIN[1]}.jpg").write_bytes(b"")
    (source / f"CUB_200_2011/images/{TRAIN[2]}.jpg").unlink()
    with pytest.raises(DataError, match=f"{TRAIN[0]}.*truncated"):
        examples(source)
    assert [example["name"] for example in examples(source, bad_images="skip")] == TRAIN[3:]
    (source / f"CUB_200_2011/images/{TRAIN[3]}.jpg").unlink()
    with pytest.raises(DataError, match=r"no train pictures \(4 skipped\)"):
        examples(source, bad_images="skip")


def test_a_photo_without_sentences_is_named(source):
    text = source / f"text/{TRAIN[0]}.txt"
    text.write_text("\n \n")
    with pytest.raises(DataError, match=f"{TRAIN[0]}.txt: no sentences"):
        examples(source)
    text.unlink()
    with pytest.raises(DataError, match=f"{TRAIN[0]}.txt: No such file"):
        examples(source)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../outside"], "leads out of the folder"),
        (["/etc/passwd"], "leads out of the folder"),
        ([7], "is not a name"),
        ([b"\xff/a"], "is not UTF-8"),
        ([], "not a list"),
        ("007.Wren/a", "not a list"),
    ],
)
def test_invalid_names_are_refused(source, names, message):
    write(source / "train/filenames.pickle", names)
    with pytest.raises(DataError, match=message):
        examples(source)


def test_class_info_must_fit_the_photos(source):
    write(source / "train/class_info.pickle", [7, 7])
    with pytest.raises(DataError, match="2 classes for the 4 photos"):
        examples(source)
    write(source / "train/class_info.pickle", ["wren"] * 4)
    with pytest.raises(DataError, match="not a list of whole numbers"):
        examples(source)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_cannot_run_code(tmp_path, protocol):
    trace, path = tmp_path / "ran", tmp_path / "data.pickle"
    path.write_bytes(pickle.dumps([Evil(trace)], protocol=protocol))
    with pytest.raises(DataError, match="data.pickle: the pickle asks for posix.mkdir"):
        load_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_plain_data_are_read(tmp_path, protocol):
    plain = [{"a": (1, 2.5, None, True), "b": {b"\xff", "\xe9"}}, frozenset([2**60]), b""]
    arrays = [np.arange(6).reshape(2, 3).T, np.array(["ab", "\xe9"]), np.float32(0.5)]
    path = tmp_path / "data.pickle"
    path.write_bytes(pickle.dumps([plain, arrays], protocol=protocol))
    loaded, loaded_arrays = load_pickle(path)
    assert loaded == plain
    for expected, found in zip(arrays, loaded_arrays, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_python_2_pickles_are_read(tmp_path):
    path = tmp_path / "data.pickle"
    path.write_bytes(b"(lp0\nS'007.Wren/a'\np1\naI7\na.")
    assert load_pickle(path) == [b"007.Wren/a", 7]
    assert load_pickle(path, encoding="latin1") == ["007.Wren/a", 7]
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x01\x00\x00\x00\x02\x00\x00\x00tb."
    )
    np.testing.assert_array_equal(load_pickle(path), np.array([1, 2], np.int32))


def test_damaged_and_oversized_pickles_are_named(tmp_path):
    path = tmp_path / "data.pickle"
    path.write_bytes(pickle.dumps(list(range(99)))[:-5])
    with pytest.raises(DataError, match="data.pickle: the pickle is damaged"):
        load_pickle(path)
    with pytest.raises(DataError, match="more than the 9 allowed"):
        load_pickle(path, max_bytes=9)
    path.write_bytes(pickle.dumps(np.array([Evil(tmp_path)], dtype=object)))
    with pytest.raises(DataError, match="numpy array of object"):
        load_pickle(path)


def test_sixteen_bit_and_rotated_pictures_are_opened_as_seen(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((4, 6), 25700, np.uint16)).save(path)
    assert open_image(path).getpixel((0, 0)) == (100, 100, 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(path, exif=exif)
    assert open_image(path).size == (4, 6)


def test_invalid_and_too_large_pictures_are_named(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match="picture.jpg: not a picture"):
        open_image(path)
    Image.new("RGB", (40, 30)).save(path)
    with pytest.raises(DataError, match="picture.jpg: 40 x 30 pixels are more than the 1000"):
        open_image(path, max_pixels=1000)
    with pytest.raises(DataError, match="more than the"):
        resize_smaller_edge(Image.new("RGB", (1, 60_000)), 76)


def test_the_smaller_edge_is_scaled_as_torchvision_does():
    assert resize_smaller_edge(Image.new("RGB", (101, 67)), 76).size == (114, 76)
    assert resize_smaller_edge(Image.new("RGB", (67, 101)), 30).size == (30, 45)


class Source(CaptionedImageBuilder, skip_registration=True):
    """One example, whatever the test puts in it."""

    VERSION = tfds.core.Version("1.0.0")
    item: dict = {}

    def _examples(self, split):
        good = dict(image=np.zeros((76, 80, 3), np.uint8), captions=["a bird"], class_id=0)
        yield {**good, "name": "photo 7", "attributes": {}, **self.item}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"captions": []}, "photo 7: the picture has no captions"),
        ({"captions": ["a bird", " "]}, "photo 7: caption 1 is ' '"),
        ({"image": np.zeros((76, 80, 3), np.float32)}, "photo 7: float32"),
        ({"image": Image.new("L", (76, 80))}, "photo 7: a L picture"),
        ({"image": Image.new("RGB", (75, 80))}, "photo 7: .*not RGB with 76 pixels"),
    ],
)
def test_sources_are_checked(tmp_path, item, message):
    source = Source(image_size=64, data_dir=tmp_path)
    source.item = item
    with pytest.raises(DataError, match=message):
        list(source._generate_examples("train"))


@pytest.mark.parametrize(
    "arguments", [{"image_size": 0}, {"image_size": "64"}, {"bad_images": "x"}]
)
def test_arguments_are_checked(arguments):
    with pytest.raises(DataError, match=next(iter(arguments))):
        Source(**arguments)
