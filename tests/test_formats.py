"""Each layout of captioned pictures: that it is recognised, what is read of it, what is refused."""

import json
import os
import pickle

import numpy as np
import pytest
from picture_trees import SENTENCES, Evil, draw, sidecar, write
from PIL import Image

from ssagan_jax.data.formats.registry import FORMATS, format_of, make_reader
from ssagan_jax.errors import DataError


def attngan(root, images="images", pickles=True):
    names = ["001.Crow/a", "001.Crow/b", "002.Gull/a"]
    for seed, name in enumerate(names):
        draw(root / images / f"{name}.jpg", seed)
        write(root / "text" / f"{name}.txt", "\n".join(SENTENCES))
    if pickles:
        write(root / "train/filenames.pickle", names[1:])
        write(root / "test/filenames.pickle", names[:1])
    return root


def paper(root, held_out="validation", images=""):
    for split, numbers in (("train", (0, 1)), (held_out, (0,))):
        for number in numbers:
            draw(root / split / images / f"{number:05d}.jpg", number)
            write(root / split / f"captions/{number:05d}.txt", "\n".join(SENTENCES))
        write(root / split / "filenames_car.pickle", [f"{number:05d}" for number in numbers])
    return root


def coco(root, annotations="annotations", images="images"):
    for part, ids in (("train2014", (9, 4)), ("val2014", (7,))):
        for number in ids:
            draw(root / images / part / f"COCO_{number}.jpg", number)
        listed = [{"id": number, "file_name": f"COCO_{number}.jpg"} for number in ids]
        texts = [{"image_id": n, "caption": text} for text in SENTENCES for n in ids]
        content = {"images": listed, "annotations": texts}
        write(root / annotations / f"captions_{part}.json", content)
    return root


def imagefolder(root, table="metadata.jsonl"):
    captions = json.dumps(SENTENCES) if table.endswith("csv") else SENTENCES
    for split, names in (("train", "ab"), ("validation", "c")):
        for seed, name in enumerate(names):
            draw(root / split / f"{name}.png", seed)
        rows = [dict(file_name=f"{name}.png", captions=captions, label="car") for name in names]
        write(root / split / table, rows)
    return root


def items(source, name):
    found = list(FORMATS[name].items(source))
    assert found == list(FORMATS[name].items(source)), "read twice, the items differ"
    assert len({item.name for item in found}) == len(found)
    return found


def errors(source, name):
    return {item.name: item.error for item in items(source, name) if item.error}


BIRDS = "001.Crow/a 001.Crow", "001.Crow/b 001.Crow", "002.Gull/a 002.Gull"
COCO = "train2014/COCO_9  train", "train2014/COCO_4  train", "val2014/COCO_7  validation"
CARS = "train/a car train", "train/b car train", "validation/c car validation"
PAPER = "train/00000  train", "train/00001  train"


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        (attngan, {}, [f"{BIRDS[1]} train", f"{BIRDS[2]} train", f"{BIRDS[0]} validation"]),
        (
            attngan,
            {"images": "CUB_200_2011/images", "pickles": False},
            [f"{bird} " for bird in BIRDS],
        ),
        (paper, {}, [*PAPER, "validation/00000  validation"]),
        (paper, {"held_out": "test", "images": "images"}, ["test/00000  validation", *PAPER]),
        (coco, {}, [*COCO]),
        (coco, {"annotations": "", "images": ""}, [*COCO]),
        (imagefolder, {}, [*CARS]),
        (imagefolder, {"table": "metadata.csv"}, [*CARS]),
    ],
)
def test_each_layout_is_recognised_and_read(tmp_path, make, arguments, expected):
    source = make(tmp_path / "data", **arguments)
    assert format_of(source) == make.__name__
    found = items(source, make.__name__)
    assert [f"{item.name} {item.label} {item.split}" for item in found] == expected
    for item in found:
        assert item.captions == SENTENCES and not item.error
        assert Image.open(item.picture).size == (40, 36)


def test_sidecar_takes_splits_and_classes_from_folders(tmp_path):
    sidecar(tmp_path / "train/audi", 2)
    sidecar(tmp_path / "val/fiat", 1)
    draw(tmp_path / "car.PNG", 3)
    write(tmp_path / "car.txt", "\ufeffa car, in the rain\r\n")
    write(tmp_path / "README.txt", "made by hand")
    (tmp_path / ".cache").mkdir()
    draw(tmp_path / ".cache/thumb.png", 4)
    assert format_of(tmp_path) == "sidecar"
    found = items(tmp_path, "sidecar")
    assert [(item.name, item.label, item.split, item.captions) for item in found] == [
        ("car", "", "", ("a car, in the rain",)),
        ("train/audi/00", "audi", "train", (SENTENCES[0], f"{SENTENCES[1]} 0")),
        ("train/audi/01", "audi", "train", (SENTENCES[0], f"{SENTENCES[1]} 1")),
        ("val/fiat/00", "fiat", "validation", (SENTENCES[0], f"{SENTENCES[1]} 0")),
    ]


def test_a_picture_without_sentences_and_sentences_without_a_picture_are_items(tmp_path):
    sidecar(tmp_path / "sidecar")
    attngan(tmp_path / "attngan", pickles=False)
    for name in ("sidecar", "attngan"):
        root = tmp_path / name
        texts = sorted(root.rglob("*.txt"))
        texts[0].rename(texts[0].with_name("other.txt"))
        bare = [item for item in items(root, name) if not item.captions]
        alone = [item for item in items(root, name) if item.picture is None]
        assert len(bare) == 1 and len(alone) == 1 and alone[0].name.endswith("other")
    root = paper(tmp_path / "paper")
    (root / "train/00001.jpg").unlink()
    assert [item.name for item in items(root, "paper") if item.picture is None] == ["train/00001"]


def test_attngan_finds_flat_texts_classes_by_number_and_boxes(tmp_path):
    root = attngan(tmp_path, "CUB_200_2011/images")
    write(root / "text/a.txt", "a flat text\n")
    (root / "text/001.Crow/a.txt").unlink()
    write(root / "train/class_info.pickle", [1, 2])
    write(root / "test/class_info.pickle", np.array([1]))
    write(root / "CUB_200_2011/bounding_boxes.txt", "1 2.0 3.0 10.0 12.0\n3 0 0 4 4\n")
    write(root / "CUB_200_2011/images.txt", "1 001.Crow/b.jpg\n3 001.Crow/a.jpg\n")
    first, second, third = items(root, "attngan")
    assert (first.name, first.label, first.box) == ("001.Crow/b", "1", (2, 3, 10, 12))
    assert second.label == "2" and "no box for 002.Gull/a" in second.error
    assert third.captions == ("a flat text",) and third.box == (0, 0, 4, 4)


def test_coco_pictures_of_df_gan_are_in_two_folders(tmp_path):
    for name in ("COCO_train2014_1", "COCO_val2014_2"):
        draw(tmp_path / "images" / name.split("_")[1] / f"{name}.jpg", 1)
        write(tmp_path / f"text/{name}.txt", "a dog")
    write(tmp_path / "train/filenames.pickle", ["COCO_train2014_1"])
    write(tmp_path / "test/filenames.pickle", ["COCO_val2014_2"])
    assert format_of(tmp_path) == "attngan"
    found = [(i.name, i.split, i.picture.parent.name) for i in items(tmp_path, "attngan")]
    assert found == [
        ("COCO_train2014_1", "train", "train2014"),
        ("COCO_val2014_2", "validation", "val2014"),
    ]


def test_imagefolder_joins_rows_and_lists_pictures_that_no_row_names(tmp_path):
    for seed, name in enumerate("abc"):
        draw(tmp_path / f"{name}.jpg", seed)
    rows = [
        {"file_name": "a.jpg", "text": "a car"},
        {"file_name": "b.jpg", "caption": "a van"},
        {"file_name": "a.jpg", "text": "a red car"},
        {"file_name": "gone.jpg", "text": "a bus"},
    ]
    write(tmp_path / "metadata.jsonl", rows)
    found = {item.name: item for item in items(tmp_path, "imagefolder")}
    assert found["a"].captions == ("a car", "a red car") and found["b"].captions == ("a van",)
    assert found["gone"].picture is None and found["c"].captions == ()


def test_imagefolder_names_the_rows_that_it_cannot_use(tmp_path):
    draw(tmp_path / "a.jpg", 1)
    rows = [
        '{"file_name": "a.jpg", "text": "a car"}',
        '{"file_name": "a.jpg"',
        '["a.jpg"]',
        '{"file_name": "../a.jpg", "text": "outside"}',
        '{"file_name": "/etc/passwd", "text": "outside"}',
        '{"file_name": 7, "text": "seven"}',
        '{"file_name": "a.jpg", "text": {"deep": 1}}',
        "[" * 100_000,
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    named = errors(tmp_path, "imagefolder")
    assert list(named) == [f"metadata.jsonl:{number}" for number in range(2, 9)]
    messages = ["", "", "leads out", "leads out", "must be the path", "text", ""]
    for number, message in enumerate(messages, start=2):
        error = named[f"metadata.jsonl:{number}"]
        assert f"line {number}" in error and message in error


def test_imagefolder_reads_lists_of_pandas_and_refuses_surplus_cells(tmp_path):
    table = "file_name,text\na.jpg,a red car, facing left\n"
    table += "b.jpg,\"['a car', 'it\\'s on the beach']\"\nc.jpg,[sic] a van\n"
    (tmp_path / "metadata.csv").write_text(table)
    first, *others = items(tmp_path, "imagefolder")
    assert "line 2: more cells than the header" in first.error
    assert [item.captions for item in others] == [("a car", "it's on the beach"), ("[sic] a van",)]


def test_pictures_of_one_stem_share_its_text_and_none_is_lost(tmp_path):
    for root, pictures, texts in (("paper", "images", "captions"), ("attngan", "images", "text")):
        for seed, name in enumerate(("00.jpg", "00.png", "01.Jpg")):
            file = draw(tmp_path / root / pictures / name.replace("Jpg", "jpg"), seed)
            file.rename(file.with_name(name))
        for name in ("00", "01", "02"):
            write(tmp_path / root / texts / f"{name}.txt", f"car {name}\n")
        found = items(tmp_path / root, root)
        assert [(item.name, item.picture and item.picture.name) for item in found] == [
            ("00", "00.jpg"),
            ("00.png", "00.png"),
            ("01", "01.Jpg"),
            ("02", None),
        ]
        assert [item.captions for item in found] == [
            (f"car {n}",) for n in ("00", "00", "01", "02")
        ]


def test_photos_of_phones_that_cannot_be_read_are_named(tmp_path):
    for seed, name in enumerate(("red_car/1.jpg", "red_car/2.JFIF", "blue_car/1.jpg")):
        file = draw(tmp_path / name.replace("JFIF", "jpg"), seed)
        file.rename(tmp_path / name)
    write(tmp_path / "blue_car/IMG_1.HEIC", "")
    assert format_of(tmp_path) == "classes"
    assert list(errors(tmp_path, "classes")) == ["blue_car/IMG_1.HEIC"]
    names = {item.name for item in items(tmp_path, "classes") if not item.error}
    assert names == {"blue_car/1", "red_car/1", "red_car/2"}


def test_imagefolder_names_a_broken_csv(tmp_path):
    (tmp_path / "metadata.csv").write_text(f'file_name,text\na.jpg,a car\nb.jpg,"{"x" * 200_000}')
    with pytest.raises(DataError, match="metadata.csv, line 3: field larger"):
        items(tmp_path, "imagefolder")


@pytest.mark.parametrize("make", [sidecar, attngan, paper, coco, imagefolder])
def test_links_that_lead_out_are_errors_and_are_never_opened(tmp_path, make):
    root = make(tmp_path / "data")
    secret = draw(tmp_path / "secret.png", 1)
    victim = next(path for path in sorted(root.rglob("*")) if path.suffix in (".png", ".jpg"))
    victim.unlink()
    victim.symlink_to(secret)
    (named,) = errors(root, make.__name__).values()
    assert f"{victim}: a link leads out" in named
    victim.unlink()
    victim.symlink_to(victim.name)  # To itself.
    assert len(errors(root, make.__name__)) == 1


def test_pipes_and_huge_texts_are_errors_and_are_never_read(tmp_path):
    sidecar(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    write(tmp_path / "pipe.txt", "a pipe")
    (tmp_path / "00.txt").unlink()
    os.mkfifo(tmp_path / "00.txt")
    with open(tmp_path / "01.txt", "wb") as file:
        file.truncate(2**40)  # Takes no room on the disk.
    named = errors(tmp_path, "sidecar")
    assert "not a plain file" in named["pipe"] and "not a plain file" in named["00"]
    assert "more than the" in named["01"] and len(named) == 3


def test_links_to_folders_are_refused(tmp_path):
    sidecar(tmp_path / "data")
    (tmp_path / "data/more").symlink_to(tmp_path)
    with pytest.raises(DataError, match="data/more: a link to a folder"):
        items(tmp_path / "data", "sidecar")


@pytest.mark.parametrize(
    ("make", "listing"),
    [(attngan, "train/filenames.pickle"), (paper, "train/filenames_car.pickle")],
)
def test_hostile_listings_are_refused(tmp_path, make, listing):
    root = make(tmp_path / "data")
    (root / listing).write_bytes(pickle.dumps([Evil(tmp_path / "ran")]))
    with pytest.raises(DataError, match=f"{listing}: the pickle asks for posix.mkdir"):
        items(root, make.__name__)
    assert not (tmp_path / "ran").exists()
    write(root / listing, ["../../secret"])
    with pytest.raises(DataError, match="leads out of the folder"):
        items(root, make.__name__)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"images": 3, "annotations": []}', b"[" * 100_000]
)
def test_a_broken_coco_file_is_named(tmp_path, content):
    root = coco(tmp_path)
    (root / "annotations/captions_val2014.json").write_bytes(content)
    with pytest.raises(DataError, match="captions_val2014.json: not COCO's captions"):
        items(root, "coco")


def test_coco_names_captions_without_an_image_and_names_that_lead_out(tmp_path):
    images = [{"id": 1, "file_name": "../x.jpg"}, {"id": 2, "file_name": "gone.jpg"}]
    content = {"images": images, "annotations": [{"image_id": 5, "caption": "a car"}]}
    write(tmp_path / "captions_cars.json", content)
    first, second, third = items(tmp_path, "coco")
    assert "leads out" in first.error and first.picture is None
    assert (second.name, second.picture, second.split) == ("cars/gone", None, "")
    assert (third.name, third.captions) == ("cars/image_id=5", ("a car",))


def test_coco_captions_may_be_missing_but_are_never_numbers(tmp_path):
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    texts = [(1, None), (2, "a car"), (2, ["a van", "a bus"])]
    annotations = [{"image_id": number, "caption": text} for number, text in texts]
    table = write(tmp_path / "captions_x.json", {"images": images, "annotations": annotations})
    assert [item.captions for item in items(tmp_path, "coco")] == [(), ("a car", "a van", "a bus")]
    write(table, {"images": images, "annotations": [{"image_id": 1, "caption": 7}]})
    with pytest.raises(DataError, match=r"not COCO's captions \(TypeError: caption 7\)"):
        items(tmp_path, "coco")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig", "utf-8"])
def test_texts_of_windows_programs_are_read(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    for name, folder in (("a", "sidecar"), ("b", "imagefolder")):
        draw(tmp_path / folder / f"{name}.jpg", 1)
    text = f"{mark}a grün car\r\na van\r\n".encode(encoding)
    (tmp_path / "sidecar/a.txt").write_bytes(text)
    table = f'{mark}file_name,text\r\nb.jpg,"a grün car, parked"\r\n'.encode(encoding)
    (tmp_path / "imagefolder/metadata.csv").write_bytes(table)
    assert items(tmp_path / "sidecar", "sidecar")[0].captions == ("a grün car", "a van")
    assert items(tmp_path / "imagefolder", "imagefolder")[0].captions == ("a grün car, parked",)


def test_a_downloaded_archive_beside_its_pictures_is_not_the_source(tmp_path):
    write(tmp_path / "flowers.tgz", "")
    assert format_of(tmp_path) == "webdataset"
    for seed, name in enumerate(("rose", "tulip")):
        draw(tmp_path / f"flowers/{name}/1.jpg", seed)
    assert format_of(tmp_path) == "classes"
    write(tmp_path / "00.tar", "")
    assert format_of(tmp_path) == "webdataset"


def test_folders_of_classes_get_sentences_of_templates(tmp_path):
    for name in ("train/001.Red_car/0001", "train/blue_car/0001", "val/blue_car/0002"):
        draw(tmp_path / f"{name}.jpg", 1)
    assert format_of(tmp_path) == "classes"
    reader = make_reader("classes", templates=("a {label}", "my {label}"))
    found = [(item.name, item.label, item.split, item.captions) for item in reader.items(tmp_path)]
    assert found == [
        ("train/001.Red_car/0001", "001.Red_car", "train", ("a red car", "my red car")),
        ("train/blue_car/0001", "blue_car", "train", ("a blue car", "my blue car")),
        ("val/blue_car/0002", "blue_car", "validation", ("a blue car", "my blue car")),
    ]
    assert all(
        item.captions[0].startswith("a photo of the ") for item in items(tmp_path, "classes")
    )
    draw(tmp_path / "val/0003.jpg", 1)
    with pytest.raises(
        DataError, match=r"val/0003.jpg: is in no folder of a class; move it to one"
    ):
        list(reader.items(tmp_path))
    with pytest.raises(DataError, match="template 'a car': must contain {label}"):
        make_reader("classes", templates=("a car",))
    with pytest.raises(DataError, match="--templates: is for the formats tfds, .*not for sidecar"):
        make_reader("sidecar", templates=("a {label}",))
    with pytest.raises(
        DataError, match="--caption_column: is for the formats imagefolder, table, webdataset, h"
    ):
        make_reader("coco", caption_columns=("text",))


@pytest.mark.parametrize("folders", [["."], ["2023", "2024"], ["holiday"]])
def test_pictures_without_sentences_are_told_what_would_make_captions(tmp_path, folders):
    for folder in folders:
        draw(tmp_path / folder / "IMG_1.JPG", 1)
    draw(tmp_path / folders[-1] / "IMG_2.JPG", 1)
    with pytest.raises(DataError) as error:
        format_of(tmp_path)
    shown = f"{folders[-1]} (2)" + (", 2023 (1)" if len(folders) > 1 else "")
    name = "IMG_1.JPG" if folders == ["."] else f"{folders[0]}/IMG_1.JPG"
    assert f"{len(folders) + 1} pictures such as {name}, in {shown}, and no sen" in str(error.value)
    assert "into car_01.txt beside it" in str(error.value)
    # Nor do the names of such folders become sentences without being asked for.
    assert "a folder for each class" in str(error.value)


def test_an_unknown_layout_is_refused(tmp_path):
    draw(tmp_path / "a.jpg", 1)
    with pytest.raises(DataError, match="its layout is not recognised.*--format=tfds.attngan"):
        format_of(tmp_path)
    with pytest.raises(DataError, match="missing: there is no such folder"):
        format_of(tmp_path / "missing")
    with pytest.raises(DataError, match="--format=zip: must be auto or one of tfds, attngan"):
        format_of(tmp_path, "zip")
    for name in FORMATS:
        assert not FORMATS[name].recognises(tmp_path / "missing")
