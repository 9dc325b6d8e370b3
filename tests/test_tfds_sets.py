"""TFDS data sets as items: tiny sets written by TFDS itself, in both of its file formats."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from ssagan_jax.data.formats.item import Format
from ssagan_jax.data.formats.tfds_dataset import TEMPLATES, TfdsSet, clean_label, read_templates
from ssagan_jax.data.prepared.builder import _LocalInfo
from ssagan_jax.data.tensorflow_import import quiet_tfds
from ssagan_jax.errors import DataError

SPECIES = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
F = tfds.features


def picture(index):
    return np.full((4, 6, 3), [40 * index, 7, 200], np.uint8)


def grey_jpeg():
    file = io.BytesIO()
    Image.new("L", (6, 4), 90).save(file, "JPEG")
    file.seek(0)
    return file


class TinyPairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features of coco_captions."""

    VERSION = tfds.core.Version("1.2.0")
    FEATURES = {
        "image": F.Image(),
        "image/filename": F.Text(),
        "objects": F.Sequence({"label": F.ClassLabel(names=["cat", "dog"])}),
        "captions": F.Sequence({"id": np.int64, "text": np.str_}),
    }
    SPLITS = {"train": 3, "val": 2, "test": 1, "restval": 1, "extra": 1}

    def _info(self):
        return _LocalInfo(builder=self, features=F.FeaturesDict(self.FEATURES))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.SPLITS}

    def _generate_examples(self, split):
        for index in range(self.SPLITS[split]):
            yield index, self.example(split, index)

    def example(self, split, index):
        return {
            "image": grey_jpeg() if split == "extra" else picture(index),
            "image/filename": "a.jpg",
            "objects": [],
            "captions": [
                {"id": number, "text": f"{split} {index}, é {number}"}
                for number in range(index + 1)
            ],
        }


class TinySpecies(TinyPairs, skip_registration=True):
    """The features of caltech_birds2011: a mask beside the picture, a text that is no sentence."""

    FEATURES = {
        "image": F.Image(),
        "label": F.ClassLabel(names=SPECIES),
        "label_name": F.Text(),
        "segmentation_mask": F.Image(shape=(None, None, 1)),
    }
    SPLITS = {"train": 2, "test": 2}

    def example(self, split, index):
        unknown = (split, index) == ("test", 1)
        return {
            "image": picture(index),
            "label": -1 if unknown else index,
            "label_name": "unused",
            "segmentation_mask": np.zeros((4, 6, 1), np.uint8),
        }


class TinyTitles(TinyPairs, skip_registration=True):
    """One text a picture, under another name."""

    FEATURES = {"photo": F.Image(), "description": F.Text()}
    SPLITS = {"train": 1}
    EXAMPLE = {"photo": picture(0), "description": "A plain title."}

    def example(self, split, index):
        return self.EXAMPLE


class TinyLists(TinyTitles, skip_registration=True):
    FEATURES = {"image": F.Image(), "sentences": F.Sequence(F.Text())}
    EXAMPLE = {"image": picture(0), "sentences": ["One.", "Two."]}


class TinySounds(TinyTitles, skip_registration=True):
    FEATURES = {"image": F.Image(shape=(None, None, 4)), "captions": F.Sequence(np.int64)}
    EXAMPLE = {"image": np.zeros((4, 6, 4), np.uint8), "captions": [1]}


def write(builder, data_dir, file_format="array_record"):
    with quiet_tfds():
        made = builder(data_dir=data_dir, file_format=file_format)
        made.download_and_prepare(download_dir=data_dir / "downloads")
    return made


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A TFDS folder with all sets, the pairs a second time as tfrecord."""
    root = tmp_path_factory.mktemp("tfds")
    for builder in (TinyPairs, TinySpecies, TinyTitles, TinyLists, TinySounds):
        write(builder, root / "array_record")
    write(TinyPairs, root / "tfrecord", "tfrecord")
    return root


def items(sets, name, file_format="array_record", **kw):
    return list(TfdsSet(data_dir=sets / file_format, **kw).items(Path(name)))


@pytest.mark.parametrize(
    ("name", "file_format"), [("tiny_pairs", "array_record"), ("tiny_pairs:1.2.0", "tfrecord")]
)
def test_pairs_are_read_from_either_file_format(sets, name, file_format):
    found = {item.name: item for item in items(sets, name, file_format)}
    assert {name: item.split for name, item in found.items()} == {
        "train/000000": "train",
        "train/000001": "train",
        "train/000002": "train",
        "val/000000": "validation",
        "val/000001": "validation",
        "test/000000": "validation",
        "restval/000000": "train",
        "extra/000000": "",
    }
    for item in found.values():
        assert item.picture.dtype == np.uint8 and item.label == "" and item.box is None
        split, index = item.captions[0].split(",")[0].split(" ")
        assert item.name.startswith(f"{split}/")
        assert item.captions == tuple(f"{split} {index}, é {n}" for n in range(int(index) + 1))
        if split != "extra":
            np.testing.assert_array_equal(item.picture, picture(int(index)))
    grey = found["extra/000000"].picture
    assert grey.shape == (4, 6, 3) and (abs(grey.astype(int) - 90) <= 2).all()


def test_reading_twice_gives_the_same_items(sets):
    once, twice = (
        [(item.name, item.captions) for item in items(sets, "tiny_pairs")] for _ in range(2)
    )
    assert once == twice


def test_pictures_are_decoded_one_at_a_time(sets, monkeypatch):
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **kw: opened.append(a) or original(*a, **kw))
    found = TfdsSet(data_dir=sets / "array_record").items(Path("tiny_species"))
    next(found)
    next(found)
    assert len(opened) == 2


def test_classes_fill_templates(sets):
    found = items(sets, "tiny_species", templates=("A {label}!", "{label} {x}, {label}"))
    by_label = {item.label: item for item in found if item.split == "train"}
    assert sorted(by_label) == ["black footed albatross", "laysan albatross"]
    assert by_label["laysan albatross"].captions == (
        "A laysan albatross!",
        "laysan albatross {x}, laysan albatross",
    )
    np.testing.assert_array_equal(by_label["laysan albatross"].picture, picture(1))
    defaults = items(sets, "tiny_species")[0]
    assert len(set(defaults.captions)) == len(TEMPLATES) == 5
    assert all(defaults.label in caption for caption in defaults.captions)


def test_a_picture_of_no_known_class_has_no_sentences(sets):
    (unknown,) = [item for item in items(sets, "tiny_species") if not item.label]
    assert unknown.split == "validation" and unknown.captions == ()


def test_texts_are_found_by_their_structure(sets):
    assert items(sets, "tiny_titles")[0].captions == ("A plain title.",)
    assert items(sets, "tiny_lists")[0].captions == ("One.", "Two.")


def test_a_set_without_pictures_and_sentences_is_refused(sets):
    with pytest.raises(DataError, match=r"tiny_sounds/1\.2\.0: needed are.*it has captions, image"):
        items(sets, "tiny_sounds")


def test_a_prepared_folder_is_a_source(sets):
    folder = sets / "array_record/tiny_titles/1.2.0"
    reader: Format = TfdsSet(data_dir=sets / "nowhere")
    assert reader.recognises(folder) and not reader.recognises(folder.parent)
    assert [item.captions for item in reader.items(folder)] == [("A plain title.",)]


def test_names_are_recognised_without_touching_the_disk():
    for name in ("coco_captions", "oxford_flowers102:2.1.1", "coco_captions/2014:1.1.0"):
        assert TfdsSet().recognises(Path(name))
    assert not TfdsSet().recognises(Path("no_such_set"))


def test_unknown_names_are_refused_with_similar_ones(tmp_path):
    with pytest.raises(DataError, match=r"oxford_flower102: TFDS has no .*oxford_flowers102"):
        next(TfdsSet(data_dir=tmp_path).items(Path("oxford_flower102")))
    with pytest.raises(DataError, match=r"oxford_flowers102:9\.9\.9: .*2\.1\.1"):
        next(TfdsSet(data_dir=tmp_path).items(Path("oxford_flowers102:9.9.9")))


def test_a_missing_set_is_downloaded_or_the_command_is_printed(
    tmp_path, tmp_path_factory, monkeypatch
):
    downloads = []

    def download_and_prepare(builder, **kw):
        downloads.append((builder.name, kw))
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    # TFDS leaves a folder there.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tfds")))
    command = (
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder('oxford_flowers102:2.1.1', "
        f"data_dir='{tmp_path}').download_and_prepare(file_format='array_record')\""
    )
    source = Path("oxford_flowers102:2.1.1")
    with pytest.raises(DataError) as refused:
        next(TfdsSet(data_dir=tmp_path, download=False).items(source))
    assert command in str(refused.value) and downloads == []
    with pytest.raises(DataError, match="ConnectionError: no network") as failed:
        next(TfdsSet(data_dir=tmp_path).items(source))
    assert command in str(failed.value)
    assert downloads == [("oxford_flowers102", {"file_format": tfds.core.FileFormat.ARRAY_RECORD})]
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_picture_is_named(sets, monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *a: (_ for _ in ()).throw(OSError("cut")))
    with pytest.raises(DataError, match=r"tiny_titles/1\.2\.0, train/000000: .*cut"):
        items(sets, "tiny_titles")


def test_templates_come_from_a_file_and_need_the_label(tmp_path):
    file = tmp_path / "templates.txt"
    file.write_text("a {label}.\n\n  the {label}  \r\n", encoding="utf-8")
    assert read_templates(file) == ("a {label}.", "the {label}")
    for templates, message in ((("a bird.",), r"'a bird\.'.*\{label\}"), ((), "there are none")):
        with pytest.raises(DataError, match=message):
            TfdsSet(templates=templates)
    with pytest.raises(DataError, match=r"--templates=.*nowhere\.txt: there is no such file$"):
        read_templates(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match=r"--templates=.*: cannot be read .*one sentence per line"):
        read_templates(tmp_path)


def test_labels_become_words():
    assert clean_label("001.Black_footed_Albatross") == "black footed albatross"
    assert clean_label("n02085936-maltese_dog") == "maltese dog"
    for name in ("black-eyed susan", "volvo 240 sedan 1993", "7"):
        assert clean_label(name) == clean_label(name.title()) == name
