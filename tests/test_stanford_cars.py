"""The paper's protocol, on generated folders with class names of Cars196."""

import csv
import dataclasses
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.data.stanford_cars.class_names import parse_class, sentences
from ssagan_jax.data.stanford_cars.paper_layout import COLUMNS, recognises, write_paper_layout
from ssagan_jax.errors import DataError

CLASSES = {
    "Acura": ("RL Sedan", "TL Sedan", "TSX Sedan", "ZDX Hatchback"),
    "Audi": ("S4 Sedan", "S6 Sedan", "TT Hatchback", "V8 Sedan", "100 Wagon"),
    "BMW": ("1 Series Coupe", "M5 Sedan", "X5 SUV", "Z4 Convertible"),
    "Buick": ("Regal GS", "Rainier SUV", "Verano Sedan", "Enclave SUV"),
    "Chevrolet": ("Corvette ZR1", "HHR SS", "Express Van", "Impala Sedan"),
    "Dodge": ("Caravan Minivan", "Dakota Club Cab", "Durango SUV", "Magnum Wagon"),
    "Ford": ("Edge SUV", "F-150 Regular Cab", "GT Coupe", "Ranger SuperCab"),
    "GMC": ("Acadia SUV", "Savana Van", "Terrain SUV", "Canyon Extended Cab"),
    "Jeep": ("Compass SUV", "Liberty SUV", "Patriot SUV", "Wrangler SUV"),
    # Four classes of two models.
    "Honda": ("Accord Coupe", "Accord Sedan", "Odyssey Minivan", "Odyssey Minivan 2007"),
}
# Make, model, body and year of class names.
NAMES = [
    "AM General | Hummer | SUV | 2000",
    "Acura | TL Type-S |  | 2008",
    "Aston Martin | V8 Vantage | Convertible | 2012",
    "Audi | 100 | Wagon | 1994",
    "BMW | 1 Series | Coupe | 2012",
    "Bugatti | Veyron 16.4 | Coupe | 2009",
    "Chevrolet | Silverado 1500 Classic | Extended Cab | 2007",
    "Chrysler | Town and Country | Minivan | 2012",
    "Dodge | Dakota | Club Cab | 2007",
    "Dodge | Ram Pickup 3500 | Quad Cab | 2009",
    "Ford | E-Series Wagon | Van | 2012",
    "Ford | F-150 | Regular Cab | 2012",
    "Ford | F-450 Super Duty | Crew Cab | 2012",
    "Ford | Ranger | SuperCab | 2011",
    "Land Rover | Range Rover | SUV | 2012",
    "Lincoln | Town Car | Sedan | 2011",
    "Mercedes-Benz | 300-Class | Convertible | 1993",
    "Ram | C/V Cargo Van | Minivan | 2012",
    "Rolls-Royce | Phantom Drophead Coupe | Convertible | 2012",
    "Volvo | 240 | Sedan | 1993",
    "smart | fortwo | Convertible | 2012",
]
TRICKY = [(" ".join(name.replace("|", "").split()), *name.split(" | ")[:3]) for name in NAMES]
TRICKY += [
    (
        "Bentley Continental Supersports Conv. Convertible 2012",
        "Bentley",
        "Continental Supersports",
        "Convertible",
    ),
    ("Infiniti G Coupe IPL 2012", "Infiniti", "G IPL", "Coupe"),
]


def class_names():
    for make, models in CLASSES.items():
        for model in models:
            yield f"{make} {model}" if model[-4:] == "2007" else f"{make} {model} 2012"


def write_classes(root, pictures=5):
    """Writes 8 x 6 pictures, each of one colour of its own: three fifths in "train"."""
    count = 0
    for name in class_names():
        for index in range(pictures):
            half = "train" if 5 * index < 3 * pictures else "test"
            path = root / half / name / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            count += 1
            color = (count % 16 * 16, count // 16 % 16 * 16, count // 256 * 16)
            Image.new("RGB", (8, 6), color).save(path)
    return root


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    """Shared, so not to be changed; five pictures of each class."""
    root = tmp_path_factory.mktemp("kaggle")
    write_classes(root / "car_data" / "car_data")
    return root


def write(source, target, **kw):
    return write_paper_layout(source, target, **(dict(train=4, validation=1) | kw))


def rows(target):
    with open(target / "classes.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(folder):
    found = filter(Path.is_file, folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("name, make, model, body", TRICKY)
def test_class_names_are_parsed(name, make, model, body):
    car = parse_class(name.replace("/", "-"))
    assert dataclasses.astuple(car) == (name, make, model, body, name[-4:])


@pytest.mark.parametrize("name", ["Audi 2011", "Audi TT Hatchback", "Audi TT 20115", "2011", ""])
def test_other_folder_names_are_refused(name):
    with pytest.raises(DataError, match=re.escape(repr(name))):
        parse_class(name)


def test_there_are_five_sentences_about_the_class():
    seen = set()
    for name, make, model, _ in TRICKY:
        car = parse_class(name)
        for seed in range(20):
            written = sentences(car, np.random.default_rng(seed))
            assert len(set(written)) == 5
            text = " ".join(written)
            assert make.lower() in text.lower() and model in text and car.year in text
            assert all(line[0].isupper() and line.endswith(".") for line in written)
            vowel = "([AEIO]|SUV|ext)"
            assert not re.search(rf"\b[Aa] {vowel}|\b[Aa]n (?!{vowel})|[{{}}]|  ", text)
            seen.update(written)
    assert len(seen) > 15 * len(TRICKY)


def test_the_protocol_is_8_makes_4_models_and_20_and_5_pictures(tmp_path):
    cars, skipped = write_paper_layout(write_classes(tmp_path / "source", 25), tmp_path / "cars")
    models = Counter(car.make for car in cars)
    assert set(models.values()) == {4} and len(models) == 8 and "Honda" not in models
    assert skipped == []
    table = rows(tmp_path / "cars")
    for folder, split, count in (("train", "train", 640), ("test", "validation", 160)):
        numbers = [f"{number:05d}" for number in range(count)]
        for part in ("images", "captions"):
            found = sorted(path.stem for path in (tmp_path / f"cars/{folder}/{part}").iterdir())
            assert found == numbers
        listing = tmp_path / f"cars/{folder}/filenames_car.pickle"
        assert load_pickle(listing) == numbers and listing.read_bytes()[:2] == b"\x80\x02"
        of_split = [row for row in table if row["split"] == split]
        assert [row["number"] for row in of_split] == numbers
        class_ids = load_pickle(tmp_path / f"cars/{folder}/class_info.pickle")
        assert class_ids == [number * 32 // count for number in range(count)]
        assert class_ids == [int(row["class_id"]) for row in of_split]
    assert len({(row["class_id"], row["class"]) for row in table}) == 32


def test_every_file_is_what_the_table_says(kaggle, tmp_path):
    write(kaggle, tmp_path / "cars")
    table = rows(tmp_path / "cars")
    assert tuple(table[0]) == COLUMNS and len(table) == 8 * 4 * 5
    assert len({row["source"] for row in table}) == len(table)
    for row in table:
        source = kaggle / "car_data/car_data" / row["source"]
        folder = tmp_path / "cars" / {"train": "train", "validation": "test"}[row["split"]]
        copy = folder / f"images/{row['number']}.jpg"
        assert copy.read_bytes() == source.read_bytes() and not copy.is_symlink()
        assert row["class"] == source.parent.name
        assert " ".join(filter(None, (row[key] for key in COLUMNS[4:8]))) == row["class"]
        lines = (folder / f"captions/{row['number']}.txt").read_text().splitlines()
        assert len(set(lines)) == 5 and any(row["model"] in line for line in lines)


def test_the_seed_determines_everything(kaggle, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write(kaggle, tmp_path / name, seed=seed, models=2, train=2)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    a, c = rows(tmp_path / "a"), rows(tmp_path / "c")
    assert {row["make"] for row in a} != {row["make"] for row in c}
    shared = {row["class"] for row in a} & {row["class"] for row in c}
    assert {row["source"] for row in a if row["class"] in shared} != {
        row["source"] for row in c if row["class"] in shared
    }


def test_named_makes_give_what_the_draw_gives_of_them(kaggle, tmp_path):
    drawn, _ = write(kaggle, tmp_path / "random", models=3)
    names = [drawn[0].make, drawn[3].make]
    named, _ = write(kaggle, tmp_path / "named", models=3, makes=[names[1].lower(), names[0]])
    assert named == drawn[:6]
    sources = {row["source"] for row in rows(tmp_path / "random") if row["make"] in names}
    assert sources == {row["source"] for row in rows(tmp_path / "named")}


def test_two_years_of_a_model_are_one_model(kaggle, tmp_path):
    cars, _ = write(kaggle, tmp_path / "cars", makes=["Honda"], models=2)
    assert [car.model for car in cars] == ["Accord", "Odyssey"]


@pytest.mark.parametrize("level", ["", "car_data", "car_data/car_data", "car_data/car_data/train"])
def test_any_level_of_the_folder_is_read(kaggle, tmp_path, level):
    assert recognises(kaggle / level)
    write(kaggle / level, tmp_path / "cars", train=2)
    table = rows(tmp_path / "cars")
    assert Counter(row["split"] for row in table) == {"train": 64, "validation": 32}
    sources = {row["source"].split("/")[0] for row in table}
    assert sources == ({"train"} if level.endswith("train") else {"train", "test"})


def test_the_place_that_the_source_is_named_from_changes_nothing(kaggle, tmp_path, monkeypatch):
    train = kaggle / "car_data/car_data/train"
    write(train, tmp_path / "a", train=2)
    monkeypatch.chdir(train)
    write(Path("."), tmp_path / "b", train=2)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_other_folders_are_not_recognised(tmp_path):
    for name in ("train/001.Black_footed_Albatross", "Summer holiday 2012", "2012"):
        (tmp_path / name).mkdir(parents=True)
    assert not recognises(tmp_path)
    assert not recognises(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"car_data/car_data/train"):
        write(tmp_path, tmp_path / "cars")


@pytest.mark.parametrize(
    "wanted, message",
    [
        (dict(makes=10), r"--makes=10: 9 makes have 4 models with 5 pictures.*Honda 2, Jeep 4"),
        (dict(models=6), r"--makes=8: 0 makes have 6 models.*Audi 5"),
        (dict(train=5), r"with 6 pictures each.*Acura 0"),
        (dict(makes=["Audi", "Honda"]), r"Honda: 2 models have 5 .* Honda Accord Coupe 2012 5,"),
        (
            dict(makes=["Chevy", "Audi"]),
            r"^--makes=Chevy,Audi: there is no 'Chevy'; choose from .*Buick, Chevrolet, Dodge",
        ),
        (dict(makes=[]), r"--makes=\[\]: must be a count, 1 or more, or one or more names"),
        (dict(makes="Audi"), r"--makes='Audi': must be a count"),
        (dict(makes=0), r"--makes=0: must be a count, 1 or more"),
        (dict(train=0), r"--per_model=0\+1: both numbers must be 1 or more, like 20\+5"),
        (dict(validation=True), r"--per_model=4\+True: both numbers must be 1 or more"),
        (dict(seed=-1), r"seed=-1"),
        (dict(models=2.0), r"--models=2\.0: must be a whole number, 1 or more"),
    ],
)
def test_too_few_pictures_are_refused_with_their_counts(kaggle, tmp_path, wanted, message):
    with pytest.raises(DataError, match=message):
        write(kaggle, tmp_path / "cars", **wanted)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_pictures_are_skipped_while_enough_are_left(kaggle, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(kaggle / "car_data/car_data", source)
    for name in ("00000", "00004"):
        for path in source.glob(f"*/Audi S6 Sedan 2012/{name}.jpg"):
            path.write_bytes(path.read_bytes()[:300])
    (source / "train/Audi S6 Sedan 2012/._00001.jpg").write_bytes(b"resource fork")
    kw = dict(makes=["Audi"], models=5)
    _, skipped = write(source, tmp_path / "cars", **kw, train=2)
    assert len(skipped) <= 2
    used = {row["source"] for row in rows(tmp_path / "cars") if row["model"] == "S6"}
    assert used == {
        f"{half}/Audi S6 Sedan 2012/{name}.jpg"
        for half, name in (("train", "00001"), ("train", "00002"), ("test", "00003"))
    }
    with pytest.raises(DataError, match=r"Audi S6 Sedan 2012: 3 of its 5 .*5 are needed.*\.jpg"):
        write(source, tmp_path / "more", **kw)
    assert not (tmp_path / "more").exists()


def test_the_choice_does_not_go_into_the_source(kaggle, tmp_path):
    for target in (kaggle, kaggle / "cars"):
        with pytest.raises(DataError, match=r"--cars_dir=.* is in the source"):
            write(kaggle, target, makes=1)


def test_edited_captions_stay(kaggle, tmp_path):
    write(kaggle, tmp_path / "cars", makes=1)
    edited = tmp_path / "cars/train/captions/00000.txt"
    edited.write_text("A red car.\n")
    before = files(tmp_path)
    write(kaggle, tmp_path / "cars", makes=1)  # The same choice, as after an interruption.
    for other in ({"makes": 2}, {"makes": 1, "seed": 1}):
        with pytest.raises(DataError, match=r"cars: is there already.*edited"):
            write(kaggle, tmp_path / "cars", **other)
    assert files(tmp_path) == before and edited.read_text() == "A red car.\n"
    shutil.rmtree(tmp_path / "cars")
    (tmp_path / "cars").mkdir()
    (tmp_path / "cars/mine.txt").write_text("")
    with pytest.raises(DataError, match=r"cars: is there already"):
        write(kaggle, tmp_path / "cars", makes=1)


def test_a_failure_leaves_nothing(kaggle, tmp_path, monkeypatch):
    (tmp_path / ".cars.ssagan_jax.part/images").mkdir(parents=True)
    (tmp_path / ".cars.ssagan_jax.part/images/99999.jpg").write_bytes(b"of a killed run")
    copies = []

    def copyfile(source, target):
        if len(copies) == 7:
            raise OSError(28, "No space left on device")
        copies.append(target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copyfile)
        with pytest.raises(OSError, match="No space"):
            write(kaggle, tmp_path / "cars")
    assert len(copies) == 7 and list(tmp_path.iterdir()) == []
    (tmp_path / ".cars.ssagan_jax.part").mkdir()
    (tmp_path / ".cars.ssagan_jax.part/99999.jpg").write_bytes(b"of a killed run")
    write(kaggle, tmp_path / "cars")
    assert [path.name for path in tmp_path.iterdir()] == ["cars"]
    assert not (tmp_path / "cars/99999.jpg").exists()
