"""`python -m ssagan_jax.prepare` from a folder of pictures to batches, and what it refuses."""

import io
import json
import os
import re
import shlex
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from picture_trees import SENTENCES, draw, picture, sidecar, stored_records, write
from PIL import Image
from prepare_command import run_prepare

from ssagan_jax import prepare
from ssagan_jax.config import default_config, set_dataset
from ssagan_jax.data.class_ids import assign_class_ids
from ssagan_jax.data.datasets import open_datasets
from ssagan_jax.data.images.resizing import resize_smaller_edge
from ssagan_jax.data.ingest import scan, write_pictures
from ssagan_jax.data.ingest.scan import ScanEntry
from ssagan_jax.data.ingest.scanned_set import PrepareRequest
from ssagan_jax.data.ingest.train_validation_split import assign_splits, check_splits
from ssagan_jax.data.ingest.training_command import training_command
from ssagan_jax.data.pipeline import training_batches
from ssagan_jax.data.prepared import shard_writer
from ssagan_jax.data.prepared.prepared_sets import set_names, sets_folder
from ssagan_jax.data.prepared.set_writer import lock_set
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.errors import DataError


@pytest.fixture
def sets_dir(tmp_path):
    return str(tmp_path / "sets")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, sets_dir):
    """Runs the command on tmp_path/data; returns its exit code and what it printed."""

    def run(*flags):
        known = [f"--source={tmp_path / 'data'}", "--name=my_cars", "--image_size=32"]
        known.append(f"--prepared_dir={sets_dir}")
        given = {flag.split("=")[0] for flag in flags}
        flags = [*(flag for flag in known if flag.split("=")[0] not in given), *flags]
        monkeypatch.chdir(tmp_path)
        return run_prepare(monkeypatch, capsys, *flags)

    return run


def all_records(sets_dir):
    records = stored_records(sets_dir, "my_cars")
    return records["train"] | records["validation"]


def report(sets_dir, name="my_cars"):
    return json.loads((sets_folder(sets_dir) / name / "report.json").read_text())


def test_a_prepared_folder_is_no_longer_needed(run, tmp_path, sets_dir):
    source = sidecar(tmp_path / "data", 10)
    code, printed = run()
    assert code == 0, printed
    shutil.rmtree(source)
    folder = sets_folder(sets_dir) / "my_cars"
    names = json.loads((folder / "splits.json").read_text())
    stored = stored_records(sets_dir, "my_cars")
    assert {split: sorted(part) for split, part in stored.items()} == names
    assert len(names["train"]) == 8 and len(names["validation"]) == 2
    found = all_records(sets_dir)
    assert len({int(example["class_id"]) for example in found.values()}) == 10  # For DAMSM.
    for name, example in found.items():
        captions = [caption.decode() for caption in example["captions"]]
        assert captions == [SENTENCES[0], f"{SENTENCES[1]} {int(name)}"]
        expected = resize_smaller_edge(Image.fromarray(picture(int(name))), 38)
        image = Image.open(io.BytesIO(example["image"]))
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    counts = report(sets_dir)
    assert (counts["entries"], counts["pictures"], counts["sentences"]) == (10, 10, 20)
    assert counts["sentences_per_picture"] == {"2": 10} and not counts["errors"]
    assert counts["words_per_sentence"] == {"5": 10, "10": 10}
    assert counts["word_pieces_per_sentence"] == {"5": 10, "11": 10}  # The full stop counts.
    assert Image.open(folder / "contact_sheet.png").size[0] > 900
    (command,) = re.findall("python -m ssagan_jax.main.*", printed)
    assert command in (folder / "report.md").read_text()
    assert shlex.split(command)[3:] == [
        "--config=small_data:my_cars",
        "--config.data.image_size=32",
        f"--config.data.prepared_dir={sets_dir}",
        "--config.train.batch_size=8",
        "--config.damsm.batch_size=0",
        "--config.eval.best=",
    ]


def test_training_finds_a_set_by_its_name_and_reads_it_at_up_to_its_size(run, tmp_path, sets_dir):
    sidecar(tmp_path / "data")
    run("--val=0.5", "--seed=3")
    before = stored_records(sets_dir, "my_cars")
    config = set_dataset(default_config(), "my_cars")
    config.data.prepared_dir, config.data.image_size = sets_dir, 64
    with pytest.raises(DataError, match="my_cars was prepared for 32 pixels; lower") as error:
        open_datasets(config)
    # The message has the command that prepares the set for 64 pixels.
    code, printed = run(*shlex.split(str(error.value).rpartition("ssagan_jax.prepare ")[2]))
    assert code == 0, printed
    after = stored_records(sets_dir, "my_cars", size=64)
    assert {split: set(part) for split, part in after.items()} == {
        split: set(part) for split, part in before.items()
    }
    config.data.image_size = 32
    pictures = open_datasets(config)["train"]
    assert min(pictures[0]["image"].shape[:2]) == 38
    batch = next(
        training_batches(
            pictures,
            learn_tokenizer("words", SENTENCES, 100),
            image_size=32,
            max_words=8,
            random_flip=True,
            batch_size=4,
            seed=0,
        )
    )
    assert batch["image"].shape == (4, 32, 32, 3) and batch["image"].std() > 20
    config.data.name = "your_cars"
    message = "'your_cars': no data of that name. There are toy_cars, birds, my_cars; .*"
    message += f"--source=DIR --name=your_cars --prepared_dir={sets_dir}"
    with pytest.raises(DataError, match=message):
        open_datasets(config)


def test_cars_by_classes_are_chosen_laid_out_and_prepared(run, tmp_path, sets_dir):
    source = tmp_path / "car_data"
    names = "Audi TT Hatchback 2011", "Audi S4 Sedan 2012", "BMW X3 SUV 2012", "BMW M3 Coupe 2012"
    for seed, name in enumerate(names):
        for number in range(5):
            half = "train" if number % 2 else "test"
            draw(source / half / name / f"{number:05d}.jpg", 10 * seed + number)
    target = tmp_path / "chosen"
    flags = ("--source=" + str(source), "--makes=2", "--models=2", "--per_model=3+1")
    flags += (f"--cars_dir={target}",)
    assert run(*flags, "--dry_run", f"--report={tmp_path / 'report'}")[0] == 0
    assert not target.exists() and (tmp_path / "report" / "report.md").exists()
    code, printed = run(*flags)
    assert code == 0, printed
    assert "Audi: Audi " in printed and f"--source={target} --overwrite" in printed
    found = stored_records(sets_dir, "my_cars")
    assert {split: len(part) for split, part in found.items()} == {"train": 12, "validation": 4}
    assert all(len(record["captions"]) == 5 for record in found["train"].values())
    # Edited sentences are kept, and prepared anew on request.
    for source_again in (flags, (f"--source={target}",)):
        text = f"an edited car of {source_again[0]}"
        (target / "train" / "captions" / "00000.txt").write_text(f"{text}\n")
        assert run(*source_again, "--overwrite")[0] == 0
        assert all_records(sets_dir)["train/00000"]["captions"][0] == text.encode()
    code, printed = run(*flags, "--overwrite", "--seed=1")
    assert code == 2 and "may have been edited" in printed


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--per_model=25", "--per_model=25: must be training+validation"),
        ("--per_model=0+5", "--per_model=0+5: both numbers must be 1 or more, like 20+5"),
        ("--models=0", "--models=0: must be a whole number, 1 or more"),
        ("--makes=0", "--makes=0: must be a count, 1 or more, or one or more names"),
        ("--makes=Lada", "--makes=Lada: there is no 'Lada'; choose from Audi"),
    ],
)
def test_missing_cars_are_named(run, tmp_path, sets_dir, flag, message):
    draw(tmp_path / "car_data" / "train" / "Audi TT Hatchback 2011" / "1.jpg", 1)
    code, printed = run(f"--source={tmp_path / 'car_data'}", flag, f"--cars_dir={tmp_path / 'c'}")
    assert code == 2 and message in printed and "Traceback" not in printed
    assert not (tmp_path / "c").exists() and set_names(sets_dir) == []


def test_a_tfds_set_of_classes_is_prepared_with_templates(run, tmp_path, sets_dir):
    draw(tmp_path / "data" / "Red_car" / "1.png", 1)
    templates = write(tmp_path / "templates.txt", "a {label}\nthe {label} again\n")
    for number in range(4):
        for name in ("Red_car", "Blue_car"):
            draw(tmp_path / "data" / "train" / name / f"{number}.png", 10 * number + len(name))
    builder = tfds.ImageFolder(str(tmp_path / "data"))
    ready = tfds.dataset_builders.store_as_tfds_dataset(
        "cars_by_color",
        version="1.0.0",
        features=builder.info.features,
        split_datasets={"train": builder.as_dataset("train", decoders=None)},
        data_dir=tmp_path / "tfds",
    )
    code, printed = run(f"--source={ready.info.data_dir}", f"--templates={templates}")
    assert code == 0, printed
    captions = {tuple(record["captions"]) for record in all_records(sets_dir).values()}
    assert captions == {
        (b"a red car", b"the red car again"),
        (b"a blue car", b"the blue car again"),
    }


def test_shards_are_prepared_by_a_pattern_and_broken_ones_are_counted(run, tmp_path, sets_dir):
    for number in range(3):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for name in sidecar(tmp_path / f"folder{number}", 4).iterdir():
                tar.add(name, name.name)
    pattern = f"--source={tmp_path}/{{0..2}}.tar"
    (tmp_path / "2.tar").write_bytes((tmp_path / "2.tar").read_bytes()[:1000])
    code, printed = run(pattern, "--val=0.5")
    assert code == 2 and "(webdataset)" in printed and "2.tar: ends after 1000 bytes" in printed
    code, printed = run(pattern, "--val=0.5", "--skip_bad")
    assert code == 0, printed
    assert sorted(all_records(sets_dir)) == [f"{n // 4}/{n % 4:02d}" for n in range(8)]
    assert report(sets_dir)["notes"]["exact duplicates of another picture"] == 4
    code, printed = run(pattern, "--overwrite", "--image_column=jpg")
    assert code == 2 and "--image_column: is for the formats huggingface, not for web" in printed


def test_the_report_never_goes_into_the_source(run, tmp_path):
    sidecar(tmp_path)
    before = set(tmp_path.iterdir())
    code, printed = run("--source=.", "--dry_run")
    assert code == 0 and "no files of the report are written" in printed
    code, printed = run("--source=.", "--report=report")
    assert code == 2 and "--report=report: is in the source" in printed
    assert set(tmp_path.iterdir()) == before
    elsewhere = tmp_path.with_name(f"{tmp_path.name}_report")
    assert run("--source=.", "--dry_run", f"--report={elsewhere}")[0] == 0
    assert (elsewhere / "contact_sheet.png").exists()


def test_an_archives_outer_folders_do_not_hide_the_splits(run, tmp_path, sets_dir):
    archive = tmp_path / "unpacked"
    for seed, split in enumerate(("train", "test")):
        for number, car in enumerate(("red_car", "blue_car")):
            for photo in range(2):
                file = archive / "archive/cars" / split / car / f"{photo}.png"
                draw(file, 4 * seed + 2 * number + photo)
    (archive / "__MACOSX").mkdir()
    write(archive / "README.md", "cars")
    assert run(f"--source={archive}")[0] == 0
    found = stored_records(sets_dir, "my_cars")
    assert set(found["validation"]) == {
        f"test/{c}_car/{n}" for c in ("red", "blue") for n in (0, 1)
    }
    assert len({record["class_id"] for part in found.values() for record in part.values()}) == 2


def test_a_dry_run_only_reports(run, tmp_path, sets_dir):
    sidecar(tmp_path / "data")
    (tmp_path / "data/03.txt").unlink()
    code, printed = run("--dry_run")
    assert code == 0 and "nothing was written" in printed
    assert "this command would fail: 1 entry of " in printed and "ssagan_jax.main" not in printed
    code, printed = run("--dry_run", "--skip_bad")
    assert (
        code == 0 and "without --dry_run, then train with:\n  python -m ssagan_jax.main" in printed
    )
    assert not Path(sets_dir).exists()
    assert (tmp_path / "contact_sheet.png").exists()
    assert "| 03 |" in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["pictures"] == 7
    assert run("--dry_run", "--report=there/too")[0] == 0
    assert (tmp_path / "there/too/report.json").exists()


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        (10_000, 1, []),
        (400, 100, []),
        (399, 100, ["--config.eval.every_epochs=21"]),
        (80, 20, ["--config.eval.every_epochs=100"]),
        (400, 3, ["--config.eval.best="]),
        (
            8,
            4,
            [
                "--config.train.batch_size=8",
                "--config.damsm.batch_size=0",
                "--config.eval.every_epochs=500",
            ],
        ),
    ],
)
def test_the_training_command_fits_the_data(train, validation, expected):
    request = PrepareRequest("cars", "", "sidecar", 256, 0.2, 0, "", "")
    config, *keys = shlex.split(training_command(request, train, validation))[3:]
    recipe = "bert" if train >= 10_000 else "small_data"
    assert config == f"--config={recipe}:cars" and keys == expected


def bomb(path):
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        content = kind + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b""))


def test_errors_stop_it_and_skip_bad_skips_and_lists_them(run, tmp_path, sets_dir):
    data = sidecar(tmp_path / "data", 12)
    (data / "00.png").write_bytes(b"")
    (data / "01.png").write_bytes((data / "01.png").read_bytes()[:-900])
    (data / "02.png").write_text("<html>not found</html>")
    bomb(data / "03.png")
    write(data / "04.txt", "\n !? \n")
    (data / "05.txt").unlink()
    (data / "06.png").unlink()
    (data / "07.png").rename(data / "07.jpg")  # Readable all the same.
    Image.open(data / "08.png").convert("L").save(data / "08.png")
    code, printed = run()
    assert code == 2 and "7 entries of" in printed and "--skip_bad" in printed
    for part in ("00.png: the file is empty", "02.png: not a picture", "3600000000 pixels"):
        assert part in printed
    assert set_names(sets_dir) == []
    code, printed = run("--skip_bad")
    assert code == 0, printed
    assert sorted(all_records(sets_dir)) == ["07", "08", "09", "10", "11"]
    counts = report(sets_dir)
    assert {error["name"]: error["kind"] for error in counts["errors"]} == {
        **dict.fromkeys(["00", "01", "02", "03"], "pictures that cannot be read"),
        **dict.fromkeys(["04", "05"], "pictures without sentences"),
        "06": "sentences without a picture",
    }
    assert counts["notes"]["pictures with the extension of another format"] == 1
    assert counts["notes"]["pictures with hardly any colour"] == 1
    assert counts["notes"]["sentences without a word, skipped"] == 1
    text = (sets_folder(sets_dir) / "my_cars/report.md").read_text()
    assert all(f"| {name} |" in text for name in ("00", "01", "02", "03", "04", "05", "06"))


def test_what_could_not_be_read_is_read_again(run, tmp_path, sets_dir, monkeypatch):
    """After a change of rights, say, which the journal of the scan cannot see."""
    sidecar(tmp_path / "data")
    inspect = scan.inspect_image

    def fail_once(item, load_size):
        if item.name in ("02", "05"):
            raise DataError(f"{item.name}: Permission denied")
        return inspect(item, load_size)

    monkeypatch.setattr(scan, "inspect_image", fail_once)
    code, printed = run()
    assert code == 2 and "2 entries" in printed
    monkeypatch.setattr(scan, "inspect_image", inspect)
    assert run()[0] == 0
    assert len(all_records(sets_dir)) == 8


def test_sentences_of_every_kind_are_counted_and_kept_readable(run, tmp_path, sets_dir):
    data = sidecar(tmp_path / "data", 6)
    (data / "00.txt").write_bytes(b"a \x1b[31mred\x07 car\n\xe4uto in the rain\n" + b"car " * 19)
    write(data / "01.txt", "ein kleines rotes Auto steht davor\n\u8f66\na car\na car\n...\n")
    assert run()[0] == 0
    found = all_records(sets_dir)
    assert [text.decode() for text in found["00"]["captions"]] == [
        "a  [31mred  car",
        "\ufffduto in the rain",
        ("car " * 19).strip(),
    ]
    assert len(found["01"]["captions"]) == 4
    assert {kind: count for kind, count in report(sets_dir)["notes"].items() if count} == {
        "repeated sentences of one picture": 1,
        "sentences of more than 18 words": 1,
        "sentences without a word, skipped": 1,
        "sentences that may not be English": 3,
        "sentences with control characters, replaced by blanks": 1,
        "sentences that are not UTF-8": 1,
        "pictures smaller than 38 pixels, enlarged": 6,
    }


def test_names_and_sentences_that_no_text_can_hold_do_no_harm(run, tmp_path, sets_dir):
    data = tmp_path / "data"
    for number in range(4):
        draw(data / f"{number}.png", number)
    (data / "0.png").rename(os.fsdecode(os.fsencode(data) + b"/\xff\x1b[2J.png"))
    text = "half of a pair \ud83d here"
    rows = [{"file_name": f"{number}.png", "text": text} for number in range(4)]
    write(data / "metadata.jsonl", rows)
    code, printed = run("--skip_bad")
    assert code == 0 and "\x1b" not in printed
    found = all_records(sets_dir)
    assert sorted(found) == ["1", "2", "3"]
    assert found["1"]["captions"][0] == b"half of a pair   here"


def test_pictures_without_a_class_get_unique_ids():
    assert assign_class_ids(["b", "a", "b"]) == [1, 0, 1]
    assert assign_class_ids(["10", "9", "9"]) == [1, 0, 0]
    assert assign_class_ids(["", "", ""]) == assign_class_ids(["car"] * 3) == [0, 1, 2]
    assert assign_class_ids(["a", "", "b", ""]) == [0, 3, 1, 5]


def test_copies_of_a_picture_are_counted_and_stay_in_one_split(run, tmp_path, sets_dir):
    data = sidecar(tmp_path / "data", 6)
    for number in range(6):  # The same pixels in another file.
        Image.fromarray(picture(number)).save(data / f"copy_{number:02d}.bmp")
        write(data / f"copy_{number:02d}.txt", "the same car")
    assert run()[0] == 0
    for part in stored_records(sets_dir, "my_cars").values():
        assert all(f"copy_{name[-2:]}" in part and name[-2:] in part for name in part)
    assert report(sets_dir)["notes"]["exact duplicates of another picture"] == 6
    found = entries({"": 6})
    copies = [entry._replace(name=f"copy {entry.name}") for entry in found]
    for seed in range(3):
        chosen = held_out(found + copies, seed=seed)
        assert chosen and {f"copy {name}" in chosen for name in chosen if name[0] != "c"} == {True}
        assert len(chosen) == 2 * sum(name.startswith("copy") for name in chosen)


def test_given_splits_are_kept_but_no_picture_is_in_both(run, tmp_path, sets_dir):
    sidecar(tmp_path / "data/train", 5)
    sidecar(tmp_path / "data/val", 2)  # The pictures of train/00 and train/01.
    draw(tmp_path / "data/val/own.png", 9)
    write(tmp_path / "data/val/own.txt", "a car of its own")
    code, printed = run("--val=0.9")
    assert code == 2 and "train/00: the same pixels are in validation" in printed
    assert run("--val=0.9", "--skip_bad")[0] == 0
    found = stored_records(sets_dir, "my_cars")
    names = {split: sorted(part) for split, part in found.items()}
    assert names == {
        "train": ["train/02", "train/03", "train/04"],
        "validation": ["val/00", "val/01", "val/own"],
    }


def entries(sizes, start=0):
    """Entries of so many pictures for each class."""
    return [
        ScanEntry(0, f"{label}/{number}", label, "", f"{label}{number}".encode(), 1)
        for label, size in sizes.items()
        for number in range(start, start + size)
    ]


def held_out(found, share=0.2, seed=0):
    splits = assign_splits(found, share, seed)
    check_splits(found, splits)
    return {entry.name for entry, split in zip(found, splits, strict=True) if split != "train"}


def test_splits_are_seeded_stratified_and_stable():
    found = entries({"audi": 50, "bmw": 10, "fiat": 5, "seat": 4, "vw": 3, "opel": 3})
    chosen = held_out(found)
    counts = [sum(name.startswith(label) for name in chosen) for label in ("audi", "bmw", "fiat")]
    assert counts == [10, 2, 1] and len(chosen) == 15
    assert chosen == held_out(found[::-1]) and chosen != held_out(found, seed=1)
    more = held_out(found + entries({"audi": 5}, start=50))
    assert len(chosen - more) <= 2
    assert len(held_out(entries({str(number): 1 for number in range(40)}))) == 8


def test_too_few_pictures_to_split():
    for count in range(3):
        with pytest.raises(DataError, match=f"{count} usable pictures, {count} of them different"):
            held_out(entries({"audi": count}))
    assert len(held_out(entries({"audi": 3}), share=0.99)) == 1


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interrupted_command_continues_at_the_missing_shards_with_the_same_bits(
    run, tmp_path, sets_dir, monkeypatch
):
    data = sidecar(tmp_path / "data")
    folder, work = sets_folder(sets_dir) / "my_cars", sets_folder(sets_dir) / ".part-my_cars"
    monkeypatch.setattr(shard_writer, "_SHARD_EXAMPLES", 2)
    encoded, inspected, calls, looks = write_pictures.encode_example, scan.inspect_image, [], []

    def stop_at(count, what, seen, function):
        def counting(*arguments):
            seen.append(arguments)
            if len(seen) > count:
                raise what
            return function(*arguments)

        return counting

    assert run()[0] == 0
    whole = files_of(folder)
    shutil.rmtree(folder)
    assert len([name for name in whole if "array_record" in name]) == 4

    # In the scan, then while writing.
    failure = RuntimeError("power failure")
    with monkeypatch.context() as patch:
        patch.setattr(scan, "inspect_image", stop_at(5, failure, looks, inspected))
        with pytest.raises(RuntimeError, match="power failure"):
            run()
    with monkeypatch.context() as patch:
        patch.setattr(scan, "inspect_image", stop_at(8, failure, looks := [], inspected))
        patch.setattr(write_pictures, "encode_example", stop_at(6, failure, calls, encoded))
        with pytest.raises(RuntimeError, match="power failure"):
            run()
    assert len(looks) < 8 and set_names(sets_dir) == []
    complete = [path.name for path in work.rglob("*.array_record-?????-of-?????")]
    assert complete and len(complete) < 4
    # A process that was killed leaves half a line, half a shard and half a file.
    with open(work / "scanned.jsonl", "a") as journal:
        journal.write('["half')
    missing = next(name for name in whole if "array_record" in name and name not in complete)
    (work / "set" / f"{missing}.part").write_text("half")
    (work / "set" / ".contact_sheet.png.7.part").write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(scan, "inspect_image", stop_at(0, failure, [], inspected))
        patch.setattr(write_pictures, "encode_example", stop_at(9, failure, calls := [], encoded))
        assert run()[0] == 0
    assert len(calls) == 8 - 2 * len(complete)
    assert files_of(folder) == whole
    assert set_names(sets_dir) == ["my_cars"] and not work.exists()
    assert len(all_records(sets_dir)) == 8

    # A set is replaced only by a complete one.
    code, printed = run()
    assert code == 2 and "is prepared already" in printed and "--overwrite" in printed
    (data / "00.txt").unlink()
    assert run("--overwrite")[0] == 2
    assert len(all_records(sets_dir)) == 8
    assert run("--overwrite", "--skip_bad")[0] == 0
    assert len(all_records(sets_dir)) == 7


def test_what_an_interrupted_command_left_is_not_used_if_the_source_has_changed(
    run, tmp_path, sets_dir, monkeypatch
):
    data = sidecar(tmp_path / "data")
    monkeypatch.setattr(shard_writer, "_SHARD_EXAMPLES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer.Shards, "write_info", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run()
    write(data / "00.txt", "an edited sentence")
    draw(data / "07.png", 77)
    assert run()[0] == 0
    found = all_records(sets_dir)
    assert found["00"]["captions"][0] == b"an edited sentence"
    image = np.asarray(Image.open(io.BytesIO(found["07"]["image"])))
    np.testing.assert_array_equal(
        image, np.asarray(resize_smaller_edge(Image.fromarray(picture(77)), 38))
    )


def test_two_processes_do_not_write_one_set(run, tmp_path, sets_dir):
    sidecar(tmp_path / "data")
    with lock_set(sets_folder(sets_dir) / "my_cars", wait=False):
        code, printed = run()
    assert code == 2 and "another process is preparing it" in printed


def test_a_source_that_changes_during_the_run_is_refused(run, tmp_path, sets_dir, monkeypatch):
    data = sidecar(tmp_path / "data")
    monkeypatch.setattr(prepare, "contact_sheet", lambda items: (data / "00.png").unlink() or "")
    code, printed = run()
    assert code == 2 and "changed while it was read" in printed and set_names(sets_dir) == []


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--name=birds", "--name=birds: is built in"),
        ("--name=my cars", "--name=my cars: must be .*digits, _ and -, .* such as my_cars"),
        ("--name=../cars", "--name=../cars: must be .*letters, digits"),
        ("--val=1", "--val=1.0: must be above 0 and below 1"),
        ("--val=nan", "--val=nan: must be"),
        ("--image_size=100", "--image_size=100: must be 32, 64"),
        ("--seed=-1", "--seed=-1: must be 0 to"),
        ("--source=missing", "--source=missing: there is no such folder"),
        ("--format=zip", "--format=zip: must be auto"),
        ("--format=coco", "0 usable pictures"),
    ],
)
def test_invalid_flags_are_refused(run, tmp_path, sets_dir, flag, message):
    sidecar(tmp_path / "data")
    code, printed = run(flag)
    assert code == 2
    assert re.search(message, printed), printed
    assert not set_names(sets_dir)
