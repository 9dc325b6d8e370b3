"""What is fuzzed: readers of files of unknown origin, each with a corpus to damage."""

import csv
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st

from fuzz.mutations import damaged_bytes, damaged_json, pickles
from ssagan_jax.checkpointing.best_checkpoint import read_best
from ssagan_jax.config import default_config
from ssagan_jax.data.formats.attngan import AttnGan
from ssagan_jax.data.formats.coco import Coco
from ssagan_jax.data.formats.filename_pickles import read_classes, read_filenames
from ssagan_jax.data.formats.imagefolder import CaptionTable, ImageFolder
from ssagan_jax.data.formats.safe_paths import check_name
from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.data.tfds_folder import open_tfds_folder
from ssagan_jax.data.tokenizer import fixed_vocab_tokenizer, learn_tokenizer, load_tokenizer
from ssagan_jax.errors import InputError, escape_terminal
from ssagan_jax.evaluation.health_log import find_warnings, read_health
from ssagan_jax.evaluation.scores import read_scores
from ssagan_jax.pytorch.captions_pickle import load_words
from ssagan_jax.pytorch.huggingface_bert import load_hf_bert
from ssagan_jax.pytorch.pth_writer import write_pth
from ssagan_jax.pytorch.weight_files import read_tensors
from ssagan_jax.reporting.score_table import Row, ScoreTable
from ssagan_jax.workdir import Workdir

CAPTIONS = ["a red car", "Ein grünes Auto, zwei!", "\ud800 x", "word" * 900]
TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.int64)}


class Target(NamedTuple):
    """A reader.

    Attributes:
      files: strategy of the bytes of a file.
      path: of the file below an empty folder.
      read: of that folder.
      errors: what it may raise.
    """

    files: st.SearchStrategy
    path: str
    read: object
    errors: tuple[type[Exception], ...] = (InputError,)


def refuses(read, *arguments, errors=(InputError,)):
    """Whether a reader refuses a file, by one of its errors."""
    try:
        read(*arguments)
    except errors as error:
        assert len(str(error)) < 5000, "a message as long as the file"
        return True
    return False


def all_of(*reads):
    """A reader that fails if all of these do; each of them runs."""

    def read(folder):
        if all([refuses(each, folder) for each in reads]):
            raise InputError("all of them refused")

    return read


def zipped(program):
    """A .pth with that pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        parts = {"x/data.pkl": program, "x/data/0": bytes(24), "x/data/1": bytes(16)}
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def pth_corpus(folder):
    write_pth(folder / "x.pth", TENSORS)
    plain = (folder / "x.pth").read_bytes()
    program = zipfile.ZipFile(folder / "x.pth").read(
        next(n for n in zipfile.ZipFile(folder / "x.pth").namelist() if n.endswith("data.pkl"))
    )
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    legacy = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    legacy += program + pickle.dumps(["0", "1"], 2)
    legacy += (6).to_bytes(8, "little") + bytes(24) + (2).to_bytes(8, "little") + bytes(16)
    return [plain, legacy], program


def listed(content):
    return pickle.dumps(content, 2), pickle.dumps(content, 4), pickle.dumps(content, 0)


def tokenizers_of(folder):
    words = (
        learn_tokenizer("words", CAPTIONS[:1], 50),
        learn_tokenizer("wordpiece", CAPTIONS[:1], 60),
    )
    return [json.loads(each.to_json()) for each in (*words, fixed_vocab_tokenizer(["<end>", "a"]))]


def read_pickles(folder):
    path = folder / "x.pickle"
    all_of(
        lambda _: load_pickle(path),
        lambda _: load_pickle(path, "latin1"),
        lambda _: read_filenames(folder, path),
        lambda _: read_classes(folder, path, 3),
        lambda _: load_words(path),
    )(folder)


def read_tokenizer(folder):
    use_tokenizer(load_tokenizer(folder / "tokenizer.json"))


def use_tokenizer(tokenizer):
    for caption in CAPTIONS:
        refuses(tokenizer.unknown_words, caption)
        refuses(tokenizer.encode, caption, 5)
    tokenizer.entries(), tokenizer.digest


def read_metrics(folder):
    scores = read_scores(Workdir(folder), "validation")
    rows = [Row("m", 1.0, step, named) for step, named in scores.items()]
    table = ScoreTable(rows)
    table.markdown(), table.csv()


def read_names(folder):
    name = (folder / "name").read_bytes().decode("utf-8", "surrogateescape")
    assert escape_terminal(name).isprintable()
    name = check_name(name, folder)
    assert (folder / name).resolve().is_relative_to(folder.resolve()) or (
        folder / name
    ).is_symlink()


SCORE = {"step": 3, "epoch": 1.0, "stage": "gan", "split": "validation", "name": "fid"}
SCORE |= {"value": 3.5, "std": None, "recipe": {"num_real": 5, "num_generated": 5, "features": "x"}}
HEALTH = {"step": 3} | dict.fromkeys(
    ("health/noise_variety", "health/caption_variety", "health/separation"), 0.5
)
COCO = {
    "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "../2.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a car"}, {"image_id": 7, "caption": "two"}],
}
ROWS = [{"file_name": "a.png", "text": "a car"}, {"file_name": "b/c.png", "captions": ["x", "y"]}]
FEATURE = "tensorflow_datasets.core.features.text_feature.Text"
FEATURES = {
    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {"features": {"caption": {"pythonClassName": FEATURE, "text": {}}}},
}
INFO = {"name": "x", "version": "1.0.0", "fileFormat": "array_record", "splits": []}
BERT = {"model_type": "bert", "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1}
BERT |= {"num_attention_heads": 1, "intermediate_size": 4, "max_position_embeddings": 8}
BERT |= {"type_vocab_size": 2, "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12}


TOKENS = [
    b"1.jpg#0\ta car\n1.jpg#1\tred\n",
    b"image| comment\n1.jpg| a car\n",
    b'1.jpg,"a, ""b"""\n',
]


def csv_corpus():
    file = io.StringIO()
    table = csv.DictWriter(file, ["file_name", "text", "label"])
    table.writeheader()
    table.writerows([{"file_name": "a.png", "text": '["a car", "b"]', "label": "x"}])
    return [file.getvalue().encode()]


def npz_corpus():
    file = io.BytesIO()
    images = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez_compressed(file, captions=["a", "b"], noise=np.ones((2, 3), np.float32), real=images)
    return [file.getvalue()]


def jsons(*documents):
    texts = [json.dumps(each).encode() for each in documents]
    return damaged_json(documents) | damaged_bytes(texts)


def lines(*rows):
    return st.lists(damaged_json(rows), max_size=4).map(b"\n".join)


def make_targets(folder: Path) -> dict[str, Target]:
    """All targets; `folder` is for files that make the corpus."""
    pths, program = pth_corpus(folder)
    words = listed([[], [], {0: "<end>", 1: "a"}, {"<end>": 0, "a": 1}])
    arrays = listed([np.arange(3), np.array(["a", "é"]), np.float32(1), {1.5, b"x"}])
    corpus = [*words, *arrays, *listed(["001.A/a", b"b"]), *listed([1, 2, 3])]
    tensors = [safetensors.numpy.save(TENSORS)]
    header = json.loads(tensors[0][8 : 8 + int.from_bytes(tensors[0][:8], "little")])
    damaged = (InputError, ValueError, FileNotFoundError)
    config = default_config().to_dict()
    workdir = {
        "config.json": (config, lambda folder: Workdir(folder).config()),
        "schedule.json": (
            {"steps_per_epoch": 5, "damsm_steps": 7, "total_steps": 40},
            lambda folder: Workdir(folder).schedule().gan_epoch(3),
        ),
        "dataset.json": (
            {"train": {"images": 3, "captions": 5}},
            lambda folder: Workdir(folder).dataset_counts(),
        ),
        "best.json": (
            {"step": 3, "score": "kid", "value": 0.5},
            lambda folder: read_best(Workdir(folder)),
        ),
    }
    shards = {"metadata": {}, "weight_map": {"a": "x-1.safetensors", "b": "y.bin"}}
    boxes = [b"1 10.0 20.0 30.0 40.0\n2 1 1 1 1\n"]
    return {
        "pickles": Target(damaged_bytes(corpus) | pickles, "x.pickle", read_pickles),
        "pth": Target(
            damaged_bytes(pths)
            | (damaged_bytes([program]) | st.just(program) | pickles).map(zipped),
            "x.pth",
            lambda folder: read_tensors(folder / "x.pth"),
            damaged,
        ),
        "safetensors": Target(
            damaged_bytes(tensors)
            | damaged_json([header]).map(lambda h: len(h).to_bytes(8, "little") + h + bytes(40)),
            "x.safetensors",
            lambda folder: read_tensors(folder / "x.safetensors"),
            damaged,
        ),
        "shards": Target(
            jsons(shards),
            "x.index.json",
            lambda folder: read_tensors(folder / "x.index.json"),
            damaged,
        ),
        "tokenizer": Target(jsons(*tokenizers_of(folder)), "tokenizer.json", read_tokenizer),
        "published": Target(
            jsons(*(each["tokenizer"] for each in tokenizers_of(folder))),
            "tokenizer.json",
            lambda folder: use_tokenizer(pretrained_tokenizer(str(folder))),
        ),
        **{name: Target(jsons(document), name, read) for name, (document, read) in workdir.items()},
        "metrics": Target(lines(SCORE), "eval/metrics.jsonl", read_metrics),
        "health": Target(
            lines(HEALTH),
            "health.jsonl",
            lambda folder: find_warnings(read_health(Workdir(folder))),
        ),
        "npz": Target(
            damaged_bytes(npz_corpus()),
            "samples/fixed.npz",
            lambda folder: Workdir(folder).fixed_samples(),
        ),
        "coco": Target(
            jsons(COCO), "captions_train.json", lambda folder: list(Coco().items(folder))
        ),
        "csv": Target(
            damaged_bytes(csv_corpus()),
            "metadata.csv",
            lambda folder: list(ImageFolder().items(folder)),
        ),
        "jsonl": Target(
            lines(*ROWS), "metadata.jsonl", lambda folder: list(ImageFolder().items(folder))
        ),
        "table": Target(damaged_bytes(TOKENS + csv_corpus()), "a.token", read_table),
        "json_table": Target(jsons(COCO, {"1.jpg": ["a car"]}, ROWS), "a.json", read_table),
        "boxes": Target(damaged_bytes(boxes), "CUB_200_2011/bounding_boxes.txt", read_boxes),
        "names": Target(
            st.binary(max_size=60) | damaged_bytes([b"001.A/a.jpg", b"../x", b"\x1b[31mx"]),
            "name",
            read_names,
        ),
        "features.json": Target(jsons(FEATURES), "features.json", read_features),
        "dataset_info.json": Target(jsons(INFO), "dataset_info.json", read_features),
        "bert": Target(
            jsons(BERT), "config.json", lambda folder: load_hf_bert(str(folder)), damaged
        ),
    }


def read_table(folder):
    (folder / "1.jpg").touch()
    CaptionTable().recognises(folder)
    # Also if it is not recognised.
    (file,) = (path.name for path in folder.iterdir() if path.suffix != ".jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptionTable, "_tables", lambda self, source, find: iter([file]))
        list(CaptionTable().items(folder))


def read_boxes(folder):
    (folder / "CUB_200_2011/images.txt").write_text("1 a/b.jpg\n2 c.jpg\n")
    (folder / "text").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    list(AttnGan().items(folder))


def read_features(folder):
    for name, content in (("features.json", FEATURES), ("dataset_info.json", INFO)):
        if not (folder / name).exists():
            (folder / name).write_text(json.dumps(content))
    str(open_tfds_folder(folder).info.features)
