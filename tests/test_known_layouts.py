"""Data sets as people download or make them: what is read, and what is refused, not misread."""

import json

import pytest
from picture_trees import draw, write

from ssagan_jax.data.formats.registry import FORMATS, format_of
from ssagan_jax.errors import DataError
from ssagan_jax.prepare import contact_sheet

NAMES = ("a", "b", "c", "d")
COMMA = "a red car, parked"


def pictures(folder, names=NAMES, extension=".jpg"):
    for seed, name in enumerate(names):
        draw(folder / f"{name}{extension}", seed)


def read(source, name=None):
    """The usable items by name, and the reasons why others are not; its format must be `name`."""
    if name:
        assert format_of(source) == name
    found = {item.name: item for item in FORMATS[format_of(source)].items(source)}
    good = {key: item for key, item in found.items() if item.picture and not item.error}
    return good, {key: item.error for key, item in found.items() if key not in good}


def captions_of(source, name=None):
    """The captions of all pictures, of which all must be usable."""
    good, bad = read(source, name)
    assert not bad
    return {key: item.captions for key, item in good.items()}


# Tables

TABLES = {
    "captions.txt": "image,caption\n" + "".join(f'{n}.jpg,"{COMMA} {n}"\n' for n in NAMES),
    "results.csv": "image_name| comment_number| comment\n"
    + "".join(f"{n}.jpg| 0| {COMMA} {n}\n" for n in NAMES),
    "Flickr8k.token.txt": "".join(f"{n}.jpg#0\t{COMMA} {n}\n\n" for n in NAMES),
    "semicolons.csv": "File;Description\n" + "".join(f"{n}.jpg;{COMMA} {n}\n" for n in NAMES),
    "no_header.csv": "".join(f'{n}.jpg,"{COMMA} {n}"\n' for n in NAMES),
    "windows.csv": "image,caption\r\n"
    + "".join(f'C:\\photos\\{n}.jpg,"{COMMA} {n}"\r\n' for n in NAMES),
    "captions.json": json.dumps({f"{n}.jpg": [f"{COMMA} {n}"] for n in NAMES}),
    "dataset.json": json.dumps(
        {
            "images": [
                {"filename": f"{n}.jpg", "sentences": [{"raw": f"{COMMA} {n}"}]} for n in NAMES
            ]
        }
    ),
    "list.jsonl": "".join(
        json.dumps({"image": f"{n}.jpg", "prompt": f"{COMMA} {n}"}) + "\n" for n in NAMES
    ),
    "one.json": json.dumps(
        {
            "images": [{"id": i, "file_name": f"{n}.jpg"} for i, n in enumerate(NAMES)],
            "annotations": [
                {"image_id": i, "caption": f"{COMMA} {n}"} for i, n in enumerate(NAMES)
            ],
        }
    ),
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("folder", ["", "Images"])
def test_tables_of_captions_are_read(tmp_path, table, folder):
    pictures(tmp_path / folder)
    (tmp_path / table).write_bytes(TABLES[table].encode())
    prefix = f"{folder}/" if folder else ""
    expected = {f"{prefix}{name}": (f"{COMMA} {name}",) for name in NAMES}
    assert captions_of(tmp_path, "table") == expected


def test_several_rows_of_a_picture_are_its_captions(tmp_path):
    pictures(tmp_path / "Flicker8k_Dataset")
    lines = [f"{name}.jpg#{number}\t{name} {number}\n" for name in NAMES for number in range(3)]
    write(tmp_path / "text/Flickr8k.token.txt", "".join(lines))
    write(tmp_path / "text/Flickr_8k.trainImages.txt", "".join(f"{name}.jpg\n" for name in NAMES))
    found = captions_of(tmp_path, "table")
    assert found["Flicker8k_Dataset/b"] == ("b 0", "b 1", "b 2") and len(found) == 4


def test_tables_name_splits(tmp_path):
    pictures(tmp_path / "images")
    splits = ("train", "restval", "val", "test")
    rows = [
        {"image": f"{n}.jpg", "caption": "a car", "split": s}
        for n, s in zip(NAMES, splits, strict=True)
    ]
    write(tmp_path / "karpathy.json", rows)
    good, _ = read(tmp_path, "table")
    assert [item.split for item in good.values()] == ["train", "train", *["validation"] * 2]
    (tmp_path / "karpathy.json").unlink()
    for split, names in (("train", NAMES[:3]), ("val", NAMES[3:])):
        write(
            tmp_path / f"{split}.csv",
            [{"image": f"{name}.jpg", "caption": "a car"} for name in names],
        )
    good, _ = read(tmp_path, "table")
    assert [item.split for item in good.values()] == ["train"] * 3 + ["validation"]


def test_pictures_beside_those_of_a_table_must_be_in_it_and_masks_need_not(tmp_path):
    pictures(tmp_path / "images", (*NAMES, "other"))
    pictures(tmp_path / "segm", [f"{name}_segm" for name in NAMES], ".png")
    write(tmp_path / "captions.json", {f"{name}.jpg": "a car" for name in NAMES})
    good, _ = read(tmp_path, "table")
    assert {name for name, item in good.items() if not item.captions} == {"images/other"}


def test_a_picture_of_another_folder_never_gets_the_caption_of_a_missing_one(tmp_path):
    pictures(tmp_path / "train", "ab")
    pictures(tmp_path / "test", "cd")
    rows = [{"file_name": f"train/{name}.jpg", "text": f"train {name}"} for name in "abc"]
    rows += [{"file_name": "test/d.jpg", "text": "test d"}]
    for table in ("metadata.csv", "captions.csv"):
        path = write(tmp_path / table, rows)
        good, bad = read(tmp_path)
        captions = {name: item.captions for name, item in good.items()}
        assert captions["train/a"] == ("train a",) and captions["test/c"] == ()
        assert list(bad) == ["train/c"]
        path.unlink()


def test_names_that_several_pictures_have_are_refused(tmp_path):
    pictures(tmp_path / "day")
    pictures(tmp_path / "night", NAMES[:1])
    write(tmp_path / "names.csv", [{"image": f"{name}.jpg", "caption": "a car"} for name in NAMES])
    good, bad = read(tmp_path, "table")
    assert sum(bool(item.captions) for item in good.values()) == 3
    assert (
        "a.jpg: 2 pictures have that name, such as day/a.jpg and night/a.jpg" in bad["names.csv:2"]
    )


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd"])
def test_a_table_cannot_name_files_outside_of_the_source(tmp_path, name):
    pictures(tmp_path / "source")
    rows = [{"image": f"{each}.jpg", "caption": "a car"} for each in NAMES]
    write(tmp_path / "source/names.csv", [*rows, {"image": name, "caption": "a car"}])
    _, bad = read(tmp_path / "source", "table")
    assert list(bad) == ["names.csv:6"] and "leads out of the folder" in bad["names.csv:6"]


def test_tables_without_sentences_are_not_taken_for_captions(tmp_path):
    for label in ("red_car", "blue_car"):
        pictures(tmp_path / label)
    write(tmp_path / "labels.csv", [{"image": "red_car/a.jpg", "label": "3"}])
    write(tmp_path / "list.txt", "red_car/a.jpg\nred_car/b.jpg\n")
    with pytest.raises(DataError, match="list.txt may hold the pictures' sentences"):
        format_of(tmp_path)


# Texts beside pictures


@pytest.mark.parametrize("ending", [".caption", ".TXT", ".jpg.txt"])
def test_texts_of_other_endings_are_read(tmp_path, ending):
    for label in ("cars", "trucks"):
        pictures(tmp_path / label)
        for name in NAMES:
            write(tmp_path / label / f"{name}{ending}", f"{name} of {label}")
    found = captions_of(tmp_path, "sidecar")
    assert len(found) == 8 and found["trucks/b"] == ("b of trucks",)


def test_photos_that_cannot_be_read_are_named(tmp_path):
    pictures(tmp_path, "ab")
    (tmp_path / "c.HEIC").write_bytes(b"heic")
    for name in "abc":
        write(tmp_path / f"{name}.txt", f"a car {name}")
    good, bad = read(tmp_path, "sidecar")
    assert list(good) == ["a", "b"]
    assert bad == {"c": ".HEIC is not read; save it as JPEG or PNG"}


@pytest.mark.parametrize("folder", ["@eaDir", "__MACOSX", ".thumbnails"])
def test_thumbnails_of_a_system_are_no_pictures(tmp_path, folder):
    pictures(tmp_path, "a")
    write(tmp_path / "a.txt", "a car")
    pictures(tmp_path / folder / "a.jpg")
    assert list(captions_of(tmp_path, "sidecar")) == ["a"]


def test_shard_numbers_are_not_classes(tmp_path):
    for shard in ("00000", "00001"):
        for number in range(2):
            draw(tmp_path / shard / f"{shard}{number:04d}.jpg", number)
            write(tmp_path / shard / f"{shard}{number:04d}.txt", "a car")
    good, _ = read(tmp_path, "sidecar")
    assert {item.label for item in good.values()} == {""}


# Folders


@pytest.mark.parametrize(
    "train, test",
    [
        ("cars_train/cars_train/red", "cars_test/cars_test/red"),
        ("images/train/red", "images/test/red"),
        ("training_set/training_set/red", "test_set/test_set/red"),
    ],
)
@pytest.mark.parametrize("with_texts", [True, False])
def test_splits_are_found_in_folders_of_many_names(tmp_path, train, test, with_texts):
    for folder in (train, test):
        for each in (folder, folder.replace("red", "blue")):
            pictures(tmp_path / each, "a")
            if with_texts:
                write(tmp_path / each / "a.txt", "a car")
    write(tmp_path / "other/README.txt", "about")
    good, bad = read(tmp_path, "sidecar" if with_texts else "classes")
    assert {(item.split, item.label) for item in good.values()} == {
        (split, label) for split in ("train", "validation") for label in ("red", "blue")
    }
    assert not bad


def test_a_class_that_sounds_like_a_split_is_one(tmp_path):
    for label in ("bullet_train", "steam_train", "bus"):
        pictures(tmp_path / label, "a")
        write(tmp_path / label / "a.txt", "on rails")
    good, _ = read(tmp_path, "sidecar")
    assert {item.label for item in good.values()} == {"bullet_train", "steam_train", "bus"}
    assert {item.split for item in good.values()} == {""}


@pytest.mark.parametrize(
    "other, reason",
    [
        ("captions.xlsx", "captions.xlsx may hold the pictures' sentences, in a form that is not"),
        ("devkit/annos.mat", "devkit/annos.mat may hold"),
        ("red_car/a.json", "red_car/a.json may hold"),
        ("masks/a.png", "the folder masks does not seem to be named after what its pictures show"),
        ("part-000001/a.png", "the folder part-000001 does not seem"),
    ],
)
def test_names_of_folders_are_no_sentences_where_others_may_be(tmp_path, other, reason):
    for label in ("red_car", "blue_car"):
        pictures(tmp_path / label)
    write(tmp_path / "README.txt", "about")
    assert format_of(tmp_path) == "classes"
    draw(tmp_path / other, 9) if other.endswith("png") else write(tmp_path / other, "{}")
    with pytest.raises(DataError, match=reason):
        format_of(tmp_path)
    assert format_of(tmp_path, "classes") == "classes"


# Public sets


@pytest.mark.parametrize(
    "annotations, folder",
    [
        ("captions/annotations", "train2014/train2014"),
        ("coco/annotations", "coco/train2014"),
        ("annotations_trainval2014/annotations", "train2014/train2014"),
    ],
)
def test_coco_is_read_as_kaggle_has_it(tmp_path, annotations, folder):
    for part in ("train2014", "val2014"):
        pictures(tmp_path / folder.replace("train2014", part), [f"{part}_{n}" for n in "ab"])
        listed = [{"id": number, "file_name": f"{part}_{n}.jpg"} for number, n in enumerate("ab")]
        texts = [{"image_id": number, "caption": f"car {number}"} for number in (0, 1)]
        content = {"images": listed, "annotations": texts}
        write(tmp_path / annotations / f"captions_{part}.json", content)
    good, bad = read(tmp_path, "coco")
    assert not bad and [item.split for item in good.values()] == ["train"] * 2 + ["validation"] * 2
    assert good["val2014/val2014_b"].captions == ("car 1",)


@pytest.mark.parametrize("texts", ["text_c10", "cvpr2016_cub/text_c10"])
def test_birds_are_read_with_other_folders_of_texts(tmp_path, texts):
    cub = tmp_path / "CUB_200_2011"
    for name in ("001.Crow/a", "002.Gull/b"):
        draw(cub / "images" / f"{name}.jpg", 1)
        write(tmp_path / texts / f"{name}.txt", f"a bird {name}")
    pictures(tmp_path / "segmentations/001.Crow", "a", ".png")
    write(cub / "bounding_boxes.txt", "1 2 3 20 21\n2 4 5 22 23\n")
    write(cub / "images.txt", "1 001.Crow/a.jpg\n2 002.Gull/b.jpg\n")
    good, bad = read(tmp_path, "attngan")
    assert not bad and good["002.Gull/b"].captions == ("a bird 002.Gull/b",)
    assert good["001.Crow/a"].box == (2, 3, 20, 21) and len(good) == 2
    inside = cub / "text"
    (tmp_path / texts).rename(inside)
    assert read(cub, "attngan")[0]["002.Gull/b"].box == (4, 5, 22, 23)


def test_flowers_have_the_classes_of_their_texts(tmp_path):
    for number, name in enumerate(NAMES):
        draw(tmp_path / f"jpg/image_{name}.jpg", number)
        write(tmp_path / f"text_c10/class_{number % 2:05d}/image_{name}.txt", f"flower {name}")
    write(tmp_path / "text_c10/class_00000/image_lost.txt", "no picture")
    good, bad = read(tmp_path, "attngan")
    assert good["image_c"].captions == ("flower c",) and list(bad) == ["class_00000/image_lost"]
    assert [item.label for item in good.values()] == ["class_00000", "class_00001"] * 2


@pytest.mark.parametrize("name", ["state.json", "dataset_dict.json"])
def test_what_save_to_disk_wrote_is_not_taken_for_a_tfds_set(tmp_path, name):
    write(tmp_path / "dataset_info.json", {})
    write(tmp_path / name, {})
    with pytest.raises(DataError, match=r"load_from_disk\(.*\).to_parquet"):
        format_of(tmp_path)


def test_a_very_narrow_picture_is_on_the_contact_sheet(tmp_path):
    draw(tmp_path / "a.png", 1, (1200, 4))
    write(tmp_path / "a.txt", "a wide view")
    good, _ = read(tmp_path, "sidecar")
    assert contact_sheet(list(good.values())).size[0] > 100
