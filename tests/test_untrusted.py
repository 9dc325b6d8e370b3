"""Hostile files: each is refused by name, within the limits, and nothing in it runs."""

import io
import json
import os
import pickle
import re
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from test_weight_files import dict_op, tensor_op, write_zip

from ssagan_jax.data.captions import usable
from ssagan_jax.data.formats.coco import Coco
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.ingest.scan import TOO_LONG, scan_dataset
from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.data.tfds_folder import open_tfds_folder
from ssagan_jax.data.tokenizer import (
    TokenizerError,
    fixed_vocab_tokenizer,
    learn_tokenizer,
    load_tokenizer,
)
from ssagan_jax.errors import DamagedFileError, DataError, InputError, exit_on_user_error
from ssagan_jax.pytorch.weight_files import read_tensors
from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.archives import read_npz
from ssagan_jax.untrusted.files import read_bytes, read_json
from ssagan_jax.untrusted.safetensors_files import panics_as_errors
from ssagan_jax.workdir import Workdir

ROOT = Path(__file__).parents[1]
OBJECT_ARRAY = b"\x80\x02cnumpy\nndarray\nK\x01\x85U\x01OU\x08AAAAAAAA\x87R."


def refused_pickle(tmp_path, content, message):
    path = tmp_path / "names.pickle"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"names\.pickle: the pickle {message}"):
        load_pickle(path)


@pytest.mark.parametrize(
    "content",
    [
        OBJECT_ARRAY,
        b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93K\x01\x85\x8c\x01OC\x08AAAAAAAA\x87R.",
    ],
)
def test_the_bytes_of_a_pickle_never_become_objects(tmp_path, content):
    refused_pickle(tmp_path, content, "calls numpy.ndarray")


def nested(build, depth=60, width=10):
    """A pickle in which each of many containers holds the one before ten times."""
    program = b"\x80\x04K\x01q\x00"
    for level in range(depth):
        inner = b"h%c" % level
        container = {
            "list": b"(" + inner * width + b"l",
            "tuple": b"(" + inner * width + b"t",
            "set": b"\x8f(" + inner * width + b"\x90",
            "frozenset": b"(" + inner * width + b"\x91",
            "key": b"}" + inner + b"K\x01s",
        }[build]
        program += container + b"q%c" % (level + 1)
    return program + b"."


@pytest.mark.parametrize("build", ["list", "tuple", "set", "frozenset", "key"])
def test_repeated_containers_are_refused(tmp_path, build):
    refused_pickle(tmp_path, nested(build), "has (containers that repeat|a .* as a key)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"]" * 100_000 + b"a" * 99_999 + b".", "is nested deeper than 100"),
        (b")" + b"\x85" * 100_000 + b".", "is nested deeper than 100"),
        (b"(I" + b"9" * 5000 + b"\nl.", "has a number of 5000 digits"),
        (b"\x8b\x00\x00\x00\x40.", "has a number of 1073741824 bytes"),
        (b"]q\x00h\x00a.", "has a container that contains itself"),
        (b"(" + b"ccollections\nOrderedDict\n" * 20_000 + b"l.", "has more than 10,000 names"),
        (b"(ccollections\nOrderedDict\nq\x00" + b"h\x00" * 9999 + b"l.", "holds collections.Ord"),
        (b"}(\x8a\x09" + b"\x01" * 9 + b"Nu.", "has a key of more than 64 bits"),
        (b"(cos\nsystem\nU\x02lso.", "asks for os.system"),
        (b"(U\x02lsios\nsystem\n.", "makes objects"),
        (b"\x82\x01.", "makes objects"),
        (b"P1\n.", "refers to objects outside"),
        (b"X\xff\xff\xff\x7fa.", "ends inside of an item"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "ends inside of an item"),
        (b"((((", "is damaged"),
        (
            b"\x80\x02X\x00\x00\x01\x00" + b"a" * 65536 + b"q\x00]("
            b"c_codecs\nencode\nq\x01" + b"h\x00X\x06\x00\x00\x00latin1\x86Rh\x01" * 99 + b"e.",
            "makes more bytes",
        ),
    ],
)
def test_pickles_are_bounded(tmp_path, content, message):
    refused_pickle(tmp_path, content, message)


def test_numpy_arrays_in_pickles_must_fit_their_bytes(tmp_path):
    good = pickle.dumps(np.arange(4, dtype=np.int16), 2)
    assert load_pickle_bytes(tmp_path, good).tolist() == [0, 1, 2, 3]
    refused_pickle(tmp_path, good.replace(b"K\x04\x85", b"K\x05\x85"), "has a numpy array whose")
    text = pickle.dumps(np.array(["ab"]), 4)
    refused_pickle(tmp_path, text.replace(b"a\0\0\0", b"a\0\0\x7f"), ".* text that is damaged")
    refused_pickle(tmp_path, good.replace(b"i2", b"O2"), "has a numpy array of object")


def load_pickle_bytes(tmp_path, content):
    (tmp_path / "x.pickle").write_bytes(content)
    return load_pickle(tmp_path / "x.pickle")


def refused_tensors(path, message):
    with pytest.raises(ValueError, match=rf"{re.escape(path.name)}.*{message}"):
        read_tensors(path)


def test_a_tensor_cannot_be_larger_than_its_storage(tmp_path):
    path = tmp_path / "x.pth"
    large = tensor_op(numel=1, shape=(2**16, 2**15), strides=(0, 0))
    refused_tensors(write_zip(path, dict_op(w=large)), "shape .65536, 32768.")
    first = tensor_op(numel=2**20, shape=(2**20,), strides=(1,)) + b"p1\n"
    many = dict_op(w=first, **{f"w{index}": b"g1\n" for index in range(200)})
    write_zip(path, many, storage=np.zeros(2**20, np.float32))
    refused_tensors(path, "its tensors take 843055104 bytes")


def test_nested_dictionaries_of_tensors_are_bounded(tmp_path):
    program = tensor_op() + b"p0\n"
    for level in range(40):
        inner = b"".join(b"V%d\ng%d\ns" % (each, level) for each in range(10))
        program += b"(d" + inner + b"p%d\n" % (level + 1)
    refused_tensors(write_zip(tmp_path / "x.pth", program), "containers that repeat")


def test_archives_unpack_to_little_more_than_their_size(tmp_path):
    path = tmp_path / "x.pth"
    for name in ("data.pkl", "data/0"):
        parts = {"data.pkl": dict_op(w=tensor_op()) + b".", "data/0": bytes(24)}
        parts[name] = bytes(50 * limits.MIB)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in parts.items():
                archive.writestr(f"archive/{part}", content)
        assert path.stat().st_size < limits.MIB
        refused_tensors(path, "unpacks to 524")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("archive/data.pkl", dict_op(w=tensor_op()) + b".")
    refused_tensors(path, "another method")


def test_old_pytorch_files_declare_no_more_than_they_have(tmp_path):
    system = {"protocol_version": 1001, "little_endian": True}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [dict_op(w=tensor_op()) + b".", pickle.dumps(["0"], 2)]
    path = tmp_path / "x.pth"
    for count in (2**61, -1, 7):
        path.write_bytes(b"".join(parts) + struct.pack("<q", count) + bytes(24))
        refused_tensors(path, "storage 0 has")


def test_an_index_of_shards_names_files_beside_it(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    for name in (path.name, "../x.safetensors", "/etc/passwd", "x.py"):
        path.write_text(json.dumps({"weight_map": {"a": name}}))
        refused_tensors(path, "names")
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "x-1.safetensors")
    path.write_text(json.dumps({"weight_map": {"a": "x-1.safetensors"}}))
    assert read_tensors(path)["a"].tolist() == [1, 1]


def test_npz_files_hold_what_they_declare(tmp_path):
    path = tmp_path / "fixed.npz"
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("real.npy", header.getvalue() + bytes(100))
    with pytest.raises(DamagedFileError, match=r"fixed\.npz.*does not fit its bytes"):
        read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("real.npy", "w") as part:
            for _ in range(9):
                part.write(bytes(64 * limits.MIB))
    with pytest.raises(DamagedFileError, match="unpacks to 603979776"):
        read_npz(path)


def feature(name):
    return {"featuresDict": {"features": {"x": {"pythonClassName": name, "text": {}}}}}


DICT = {"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}
INFO = {"name": "x", "version": "1.0.0", "fileFormat": "array_record"}


@pytest.fixture
def tfds_folder(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "dataset_info.json").write_text(json.dumps(INFO))
    text = "tensorflow_datasets.core.features.text_feature.Text"
    (folder / "features.json").write_text(json.dumps(DICT | feature(text)))
    return folder


@pytest.mark.parametrize(
    "features",
    [
        DICT | feature("hostile_features.Text"),
        {"type": "hostile_features.Text", "content": {}},
        DICT | {"jsonFeature": {"json": json.dumps({"x": {"type": "hostile_features.T"}})}},
        DICT | feature("tensorflow_datasets.scripts.cli.main.Text"),
    ],
)
def test_tfds_folders_import_no_code(tmp_path, tfds_folder, monkeypatch, features):
    (tmp_path / "hostile_features.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(open_tfds_folder(tfds_folder).info.features) == ["x"]
    (tfds_folder / "features.json").write_text(json.dumps(features))
    with pytest.raises(DataError, match=r"features\.json: names the class '"):
        open_tfds_folder(tfds_folder)
    assert not (tmp_path / "ran").exists() and "hostile_features" not in sys.modules


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_damaged_files_of_tfds_folders_are_named(tfds_folder, name):
    path = tfds_folder / name
    for content in ("", "{", "[]", '"x"', "[" * 10_000, '{"version": "x.y"}'):
        path.write_text(content)
        with pytest.raises(DataError, match=str(tfds_folder)):
            open_tfds_folder(tfds_folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=rf"{name}: not a plain file"):
        open_tfds_folder(tfds_folder)


def test_the_files_of_a_tfds_folder_are_inside_of_it(tfds_folder):
    splits = [{"name": "train", "filepathTemplate": "../../{SPLIT}"}]
    (tfds_folder / "dataset_info.json").write_text(json.dumps(INFO | {"splits": splits}))
    with pytest.raises(DataError, match="lead out of the folder"):
        open_tfds_folder(tfds_folder)


def test_hugging_face_folders_run_no_code_and_ask_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on the terminal"))
    auto_map = {"AutoConfig": "run.Config", "AutoTokenizer": ["run.Tokenizer", None]}
    (tmp_path / "run.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": auto_map}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    with pytest.raises(TokenizerError, match=r"config\.tokenizer\.pretrained="):
        pretrained_tokenizer(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def tokenizers():
    learned = [learn_tokenizer(kind, ["a red car"], 60) for kind in ("words", "wordpiece")]
    return [*learned, fixed_vocab_tokenizer(["<end>", "red"])]


WORD_PIECE_KEYS = ("max_input_chars_per_word", "continuing_subword_prefix")
GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("normalizer",), {"type": "Sequence", "normalizers": [GROWING] * 20}),
        (("normalizer",), GROWING),
        (("pre_tokenizer",), {"type": "Split", "pattern": {"Regex": "(a*)*b"}}),
        (("pre_tokenizer",), {"type": "Metaspace"}),
        (("truncation",), {"max_length": 1, "stride": 5, "strategy": "LongestFirst"}),
        (("post_processor",), {"type": "Roberta"}),
        (("added_tokens",), [{"content": "", "id": 0}]),
        (("added_tokens",), [{"content": "x", "id": 2**40}]),
        (("model",), {"type": "BPE", "vocab": {}, "merges": []}),
        (("model", "vocab"), {"[UNK]": 0, "<unk>": 0, "<left out>": 0}),
        (("model", "vocab"), {"<unk>": 2**32 - 1, "[UNK]": 3, "<left out>": 2}),
        (("model", "vocab"), {}),
        (("model", "unk_token"), None),
        (("model", "vocab"), {"[UNK]": 0, "<unk>": 1, "<left out>": 2, "a": 4}),
        (("model", "max_input_chars_per_word"), 10**9),
        (("model", "continuing_subword_prefix"), "#" * 10**5),
        (("normalizer",), {"type": "Lowercase", "other": 1}),
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 11}),
        (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "Sequence"}]}),
        (("normalizer",), {"type": "BertNormalizer", "lowercase": "yes"}),
        (("added_tokens",), [{"content": "x", "id": 0}]),
        (("added_tokens",), [{"content": "x", "id": 0, "special": [[]]}]),
        (("other",), 1),
        ((), "x"),
        ((), [[]] * 5),
    ],
)
def test_tokenizers_have_no_foreign_part(tmp_path, tokenizers, place, value):
    path = tmp_path / "tokenizer.json"
    for tokenizer in tokenizers:
        content = json.loads(tokenizer.to_json())
        path.write_text(json.dumps(content))
        assert load_tokenizer(path).digest == tokenizer.digest
        parent, keys = content, ("tokenizer", *place)
        for key in keys[:-1]:
            parent = parent[key]
        if keys[-1] in WORD_PIECE_KEYS and keys[-1] not in parent:
            continue  # Words are not divided.
        parent[keys[-1]] = value
        path.write_text(json.dumps(content))
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: .*pipeline is not that of a"):
            load_tokenizer(path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", {"normalizer": GROWING}),
        ("tokenizer.json", {"model": {"type": "Unigram", "vocab": [["a", 0.5]], "unk_id": 0}}),
        ("tokenizer.json", {"model": []}),
        ("tokenizer.json", [[]] * 5),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": "yes"}),
        ("tokenizer_config.json", [1]),
        ("vocab.txt", "a\na\nb"),
        ("vocab.txt", "\x00" * 99),
    ],
)
def test_published_tokenizers_have_no_foreign_part(tmp_path, tokenizers, file, content):
    pipeline = json.loads(tokenizers[1].to_json())["tokenizer"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(pipeline))
    assert pretrained_tokenizer(str(tmp_path)).digest != tokenizers[1].digest  # It did not learn.
    if file == "tokenizer.json" and isinstance(content, dict):
        content = pipeline | content
    if file == "vocab.txt":
        (tmp_path / "tokenizer.json").unlink()
    (tmp_path / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(TokenizerError, match=r"config\.tokenizer\.pretrained=.*no tokenizer could"):
        pretrained_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"[" * 10**5, b"\xff", b"9" * 5000, b"{}", b'{"kind": [], "learned": 1}']
)
def test_damaged_tokenizers_are_one_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_panic_in_rust_is_an_error():
    class PanicException(BaseException):
        pass

    with pytest.raises(ValueError, match="index out of bounds"), panics_as_errors():
        raise PanicException("index out of bounds")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


def test_overlong_captions_are_refused_before_they_are_read(tokenizers):
    longest, longer = "é" * (limits.CAPTION_BYTES // 2), "é" * (limits.CAPTION_BYTES // 2) + "a"
    for tokenizer in tokenizers:
        tokenizer.ids(longest)
        for caption, size in ((longer, "4,097"), ("word" * 2**18, "1,048,576")):
            message = f"has {size} bytes in UTF-8; at most 4,096 are allowed: shorten it"
            for read in (tokenizer.ids, tokenizer.unknown_words):
                with pytest.raises(TokenizerError, match=message):
                    read(caption)
            with pytest.raises(TokenizerError, match=message):
                tokenizer.encode(caption, 4)
    for kind in ("words", "wordpiece"):
        with pytest.raises(TokenizerError, match="at most 4,096 are allowed"):
            learn_tokenizer(kind, ["a car", longer], 50)


def test_overlong_captions_are_counted_and_skipped():
    picture = np.zeros((8, 8, 3), np.uint8)
    captions = ("a red car", "word" * 2**18)
    assert usable(captions) == ["a red car"]
    items = [Item("1", picture, captions), Item("2", picture + 1, captions[1:])]
    scan = scan_dataset(items, load_size=8, max_words=5)
    assert scan.notes[TOO_LONG] == 2 and scan.examples[TOO_LONG] == ["1", "2"]
    assert [(entry.name, entry.sentences) for entry in scan.entries] == [("1", 1)]
    assert [error.name for error in scan.errors] == ["2"]


def test_names_reach_the_terminal_escaped(tmp_path, capsys):
    link = tmp_path / "\x1b[2Jx.pickle"
    link.write_bytes(b"\x8c\x05\x1b[31mh\x00.")
    with pytest.raises(SystemExit) as ended, exit_on_user_error():
        load_pickle(link)
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and "\x1b" not in shown and "\\x1b[2Jx.pickle" in shown
    with pytest.raises(SystemExit), exit_on_user_error():
        raise InputError("first line\n  second \u202e line")
    assert capsys.readouterr().err == "error: first line\n  second \\u202e line\n"


def test_coco_numbers_of_equal_hashes_are_refused(tmp_path):
    images = [{"id": index * (2**61 - 1), "file_name": "x"} for index in range(20)]
    content = {"images": images, "annotations": []}
    (tmp_path / "captions_train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="more than 64 bits"):
        list(Coco().items(tmp_path))


@pytest.mark.parametrize(
    "name", ["config.json", "schedule.json", "dataset.json", "tokenizer.json", "samples/fixed.npz"]
)
def test_pipes_in_a_work_folder_are_named(tmp_path, name):
    workdir = Workdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    for read in {
        "config.json": [workdir.config],
        "schedule.json": [workdir.schedule],
        "dataset.json": [workdir.dataset_counts],
        "tokenizer.json": [workdir.tokenizer],
    }.get(name, [workdir.fixed_samples]):
        with pytest.raises(InputError, match=rf"{name}.*not a plain file"):
            read()


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "socket", "/dev/zero"):
        with pytest.raises(DamagedFileError, match="not a plain file"):
            read_bytes(path, 100)
    server.close()
    (tmp_path / "x.json").write_text(f"[{'[' * 200}{']' * 200}]")
    with pytest.raises(DamagedFileError, match=r"x\.json: not readable JSON \(nested deeper"):
        read_json(tmp_path / "x.json")
    with pytest.raises(DamagedFileError, match=r"x\.json: 402 bytes are more than the 401"):
        read_bytes(tmp_path / "x.json", 401)


def test_the_page_lists_the_limits():
    page = (ROOT / "docs" / "security.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+)(?: MiB)? \|", page, re.MULTILINE))
    wanted = {}
    for name, value in vars(limits).items():
        if name.isupper() and name != "MIB":
            mib = name.endswith("_BYTES") and not value % limits.MIB
            wanted[name] = f"{value // limits.MIB if mib else value:,}"
    assert rows == wanted


def test_a_hostile_pickle_ends_the_command_with_2(tmp_path):
    (tmp_path / "captions.pickle").write_bytes(OBJECT_ARRAY)
    command = [sys.executable, "-m", "ssagan_jax.convert", f"--workdir={tmp_path / 'run'}"]
    command += [f"--{flag}={tmp_path / 'captions.pickle'}" for flag in ("captions", "text_encoder")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert re.fullmatch(r"error: .*captions\.pickle: the pickle calls numpy.*\n", done.stderr)
