"""PyTorch files to a work folder and back, without PyTorch: the files are made here."""

import os
import pickle
import re
import struct
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssagan_jax import convert, sample
from ssagan_jax.config import ConfigError, default_config
from ssagan_jax.errors import DataError, InputError
from ssagan_jax.inference.model_loading import load_model, load_state
from ssagan_jax.models.discriminator import Discriminator
from ssagan_jax.models.generator import Generator
from ssagan_jax.models.inception import InceptionImageEncoder
from ssagan_jax.models.lstm import LstmTextEncoder
from ssagan_jax.pytorch.captions_pickle import load_words, save_words
from ssagan_jax.pytorch.name_mapping import from_pytorch, infer_sizes, to_pytorch
from ssagan_jax.pytorch.pth_writer import write_pth
from ssagan_jax.pytorch.state_from_pytorch import read_weight_source
from ssagan_jax.pytorch.weight_files import read_tensors
from ssagan_jax.steps.state import network_variables
from ssagan_jax.training.warm_start import (
    warm_start_state,
    with_warm_start_encoders,
    with_warm_start_sizes,
)
from ssagan_jax.workdir import Workdir

SIZE, WIDTH, SENTENCE, WORD_DIM, NOISE, MASK = 32, 2, 8, 5, 6, 3
WORDS = ["<end>", "a", "red", "bird", "blue", "caf", "nave", "with", "the", "wings"]
FILES = ("generator", "discriminator", "text_encoder")


def shapes_of(module, *arguments):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments))


def noisy(shapes, seed):
    """Numbers for every variable, of which the variances are positive."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.9, leaf.shape).astype(np.float32), shapes)


def generator_of(size, width, sentence, noise, mask):
    module = Generator(size, width, mask_channels=mask)
    return shapes_of(module, jnp.zeros((2, noise)), jnp.zeros((2, sentence)), False)


def discriminator_of(size, width, sentence):
    images = jnp.zeros((2, size, size, 3))
    return shapes_of(Discriminator(size, width), images, jnp.zeros((2, sentence)))


@pytest.fixture(scope="module")
def tensors():
    """Small state dicts as of PyTorch's networks, trained for 12 batches."""
    caption = (jnp.zeros((2, 4), int), jnp.ones((2, 4), bool), False)
    text = shapes_of(LstmTextEncoder(len(WORDS), SENTENCE, WORD_DIM), *caption)
    wanted = {
        "generator": generator_of(SIZE, WIDTH, SENTENCE, NOISE, MASK),
        "discriminator": discriminator_of(SIZE, WIDTH, SENTENCE),
        "text_encoder": text,
    }
    made = {
        network: to_pytorch(network, noisy(shapes, seed))
        for seed, (network, shapes) in enumerate(wanted.items())
    }
    for name, tensor in made["generator"].items():
        if name.endswith("num_batches_tracked"):
            tensor[...] = 12
    return made


def save_captions(folder, words=WORDS):
    by_id = dict(enumerate(words))
    content = [[[1, 2, 3]], [[4]], by_id, {word: index for index, word in by_id.items()}]
    path = folder / "captions.pickle"
    path.write_bytes(pickle.dumps(content, 2))
    return path


def write_files(tensors, folder):
    """Writes the networks and the vocabulary, and returns the flags that name the files."""
    flags = {network: folder / f"{network}.pth" for network in FILES}
    for network, path in flags.items():
        write_pth(path, tensors[network])
    return flags | {"captions": save_captions(folder)}


@pytest.fixture
def files(tensors, tmp_path):
    return write_files(tensors, tmp_path)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process and returns its output."""

    def run(command=convert, **flags):
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        command.main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(run, capsys):
    """Runs the command, which must fail with a message of one line, and returns it."""

    def refused(**flags):
        with pytest.raises(SystemExit) as caught:
            run(**flags)
        output = capsys.readouterr().err
        assert caught.value.code == 2 and output.startswith("error: ") and output.count("\n") == 1
        return output

    return refused


def same(one, other):
    """Whether names, types, shapes and bytes are equal."""
    one, other = (
        {name: (t.dtype, t.shape, t.tobytes()) for name, t in tensors.items()}
        for tensors in (one, other)
    )
    return one == other


# The file format


def test_written_files_are_pytorchs(tmp_path):
    """The pickle's calls are those of torch.save, in its archive's layout."""
    write_pth(tmp_path / "x.pth", {"w": np.arange(6, dtype=np.float32).reshape(2, 3)})
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        names = {name.removeprefix("archive/") for name in archive.namelist()}
        assert names == {"data.pkl", "version", "byteorder", "data/0"}
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/data/0") == struct.pack("<6f", *range(6))
        program = archive.read("archive/data.pkl")
    calls = re.findall(rb"c(torch\S*)\n(\S+)\n", program)
    assert calls == [(b"torch._utils", b"_rebuild_tensor_v2"), (b"torch", b"FloatStorage")]

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            return dict if name == "OrderedDict" else lambda *arguments: arguments

        def persistent_load(self, pid):
            return pid[0], *pid[2:]

    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        content = Reader(archive.open("archive/data.pkl")).load()
    assert content == {"w": (("storage", "0", "cpu", 6), 0, (2, 3), (3, 1), False, {})}


def test_written_files_come_back_and_do_not_change_with_the_day(tmp_path):
    made = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "i": np.array(7, np.int64),
        "e": np.zeros((0, 3), np.float16),
        "l": np.ones((300, 300), np.float64),
        "b": np.array([True, False]),
    }
    for name in ("one.pth", "other.pth"):
        write_pth(tmp_path / name, made)
    assert same(read_tensors(tmp_path / "one.pth"), made)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "other.pth").read_bytes()


def test_the_prefix_can_be_kept(tmp_path):
    write_pth(tmp_path / "x.pth", {"module.w": np.zeros(2), "module.v": np.zeros(2)})
    assert set(read_tensors(tmp_path / "x.pth", keep_prefix=True)) == {"module.w", "module.v"}
    assert set(read_tensors(tmp_path / "x.pth")) == {"w", "v"}


# Names


def test_names_are_those_of_the_reference_at_its_own_size():
    made = to_pytorch("generator", noisy(generator_of(256, 2, 256, 100, 100), 0))
    assert len(made) == 267
    shapes = {
        "fc.weight": (256, 100),
        "conv_mask.1.running_var": (100,),
        "block0.affine0.fc_gamma.linear1.weight": (256, 256),
        "block3.affine2.fc_beta.linear2.bias": (16,),
        "block4.c_sc.weight": (8, 16, 1, 1),
        "block5.conv_mask.3.weight": (1, 100, 1, 1),
        "block6.affine2.batch_norm2d.num_batches_tracked": (),
        "block6.gamma": (1,),
        "conv_img.0.weight": (2,),
        "conv_img.2.weight": (3, 2, 3, 3),
    }
    assert {name: made[name].shape for name in shapes} == shapes
    assert not [name for name in made if name.startswith(("block6.conv_mask", "block0.c_sc"))]
    made = to_pytorch("discriminator", noisy(discriminator_of(256, 2, 256), 0))
    shapes = {
        "conv_img.weight": (2, 3, 3, 3),
        "block0.conv_r.0.weight": (4, 2, 4, 4),
        "block5.conv_r.2.weight": (32, 32, 3, 3),
        "block3.conv_s.bias": (32,),
        "block5.conv_s.weight": (32, 32, 1, 1),
        "block5.gamma": (1,),
        "COND_DNET.joint_conv.0.weight": (4, 288, 3, 3),
        "COND_DNET.joint_conv.2.weight": (1, 4, 4, 4),
    }
    assert len(made) == 34 and {name: made[name].shape for name in shapes} == shapes
    # The reference makes the last ones and never calls them.
    assert not made["block5.conv_s.weight"].any() and made["block3.conv_s.weight"].all()


def test_noise_reaches_the_same_pixel_and_channel(tensors):
    """PyTorch's first layer counts channels, rows, columns; ours rows, columns, channels."""
    weight = np.zeros_like(tensors["generator"]["fc.weight"])
    channel, row, column = 9, 2, 3
    weight[channel * 16 + row * 4 + column] = 1
    given = tensors["generator"] | {"fc.weight": weight}
    wanted = generator_of(SIZE, WIDTH, SENTENCE, NOISE, MASK)
    ours, _ = from_pytorch("generator", given, wanted, "the file")
    spread = ours["params"]["Dense_0"]["kernel"].reshape(NOISE, 4, 4, 8 * WIDTH)
    assert (spread[:, row, column, channel] == 1).all() and spread.sum() == NOISE


def test_the_inception_encoder_goes_there_and_back():
    shapes = shapes_of(InceptionImageEncoder(SENTENCE), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    # Views of one row of numbers, so that 90 MB need not be drawn.
    numbers = rng.standard_normal(2_000_000).astype(np.float32)
    ours = jax.tree.map(lambda leaf: numbers[: leaf.size].reshape(leaf.shape), shapes)
    theirs = to_pytorch("image_encoder", ours)
    assert len(theirs) == 567
    assert infer_sizes("image_encoder", theirs) == {"embedding_dim": SENTENCE}
    assert theirs["emb_features.weight"].shape == (SENTENCE, 768, 1, 1)
    assert theirs["emb_cnn_code.weight"].shape == (SENTENCE, 2048)
    assert theirs["Mixed_6b.branch7x7_2.conv.weight"].shape == (128, 128, 1, 7)
    back, spare = from_pytorch("image_encoder", theirs, shapes, "the file")
    assert jax.tree.all(jax.tree.map(np.array_equal, back, ours))
    assert len(spare) == 94 and all(name.endswith("num_batches_tracked") for name in spare)
    wrong = theirs | {"emb_features.weight": np.zeros((SENTENCE, 768, 3, 3), np.float32)}
    with pytest.raises(ValueError, match=r"emb_features.weight has shape \(8, 768, 3, 3\)"):
        from_pytorch("image_encoder", wrong, shapes, "the file")


# The command


def test_a_converted_folder_generates_and_converts_back_exactly(files, run, tensors, tmp_path):
    """The generator's last layer is a constant, and so are its images."""
    workdir = tmp_path / "run"
    constant = {
        "conv_img.2.weight": np.zeros_like(tensors["generator"]["conv_img.2.weight"]),
        "conv_img.2.bias": np.arctanh([-0.5, 0, 0.5]).astype(np.float32),
    }
    generator = tensors["generator"] | constant
    parallel = {f"module.{name}": tensor for name, tensor in generator.items()}
    write_pth(files["generator"], parallel)
    output = run(workdir=workdir, **files)
    assert f"generator: {files['generator']}\n" in output
    assert "image_encoder: untrained, since --image_encoder was not given\n" in output
    assert output.endswith(f"wrote {workdir}: 32 pixels, 10 words\n")
    config = Workdir(workdir).config()
    assert (config.generator.channels, config.generator.mask_channels) == (WIDTH, MASK)
    assert (config.generator.noise_dim, config.discriminator.channels) == (NOISE, WIDTH)
    assert (config.text_encoder.embedding_dim, config.text_encoder.word_dim) == (SENTENCE, WORD_DIM)
    output = run(sample, workdir=workdir, caption="a red zebra", num=2, output=tmp_path / "out")
    assert "unknown words in 'a red zebra': zebra\n2 images of step 0" in output
    for image in map(Image.open, tmp_path.glob("out/000_a-red-zebra_00[01].png")):
        assert image.getcolors() == [(SIZE * SIZE, (64, 128, 191))]
    assert len(os.listdir(tmp_path / "out")) == 3
    with pytest.raises(InputError, match="no image encoder"):  # Not one of random weights.
        load_model(workdir).score([image], "a red bird")
    assert Workdir(workdir).pytorch_extras.stat().st_mode & 0o044  # As of other files.
    run(workdir=workdir, output=tmp_path / "back")
    for network, name in zip(FILES, ("netG", "netD", "text_encoder"), strict=True):
        wanted = parallel if network == "generator" else tensors[network]
        assert same(read_tensors(tmp_path / f"back/{name}_000.pth", True), wanted)
    assert load_words(tmp_path / "back/captions.pickle") == WORDS
    assert len(os.listdir(tmp_path / "back")) == 4


@pytest.mark.parametrize("form", ["plain", "module", "state_dict", "netG"])
def test_forms_of_files(form, tensors, tmp_path):
    given = tensors["generator"]
    prefix = "" if form == "plain" else "module."
    path = tmp_path / "x.pth"
    write_pth(path, {f"{prefix}{name}": tensor for name, tensor in given.items()})
    if form in ("state_dict", "netG"):
        put_into_a_checkpoint(path, form)
    source = read_weight_source("generator", str(path))
    assert same(source.tensors, given) and source.prefix == prefix


def put_into_a_checkpoint(path, key):
    """Puts a file's state dict under a key, beside the number of an epoch."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    inner = parts["archive/data.pkl"][2:-1]
    epoch = b"X\x05\x00\x00\x00epochK\x03"
    named = b"X" + struct.pack("<I", len(key)) + key.encode() + inner
    parts["archive/data.pkl"] = b"\x80\x02}(" + epoch + named + b"u."
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_encoders_alone_can_neither_generate_nor_be_fine_tuned(files, run, capsys, tmp_path):
    flags = {name: files[name] for name in ("text_encoder", "captions")}
    output = run(workdir=tmp_path / "run", **flags)
    assert "generator: untrained, since --generator was not given" in output
    with pytest.raises(SystemExit):
        run(sample, workdir=tmp_path / "run", caption="a red bird")
    assert "its generator is untrained; use the folder as config.damsm" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"config\.train\.checkpoint=.*generator is untrained"):
        with_warm_start_sizes(fine_tuning(tmp_path / "run"))
    output = run(workdir=tmp_path / "run", output=tmp_path / "back")
    assert "skipped discriminator: it was not converted and is untrained" in output
    assert sorted(os.listdir(tmp_path / "back")) == ["captions.pickle", "text_encoder_000.pth"]


def test_every_bad_tensor_is_named_and_nothing_is_left(files, refused, tensors, tmp_path):
    bad = dict(tensors["generator"])
    del bad["block3.c1.weight"]
    bad["block1.gamma"] = np.zeros((2,), np.float32)
    bad["fc.bias"] = np.zeros((), np.float32)
    bad["block9x.weight"] = np.zeros((2,), np.float32)
    write_pth(files["generator"], bad)
    output = refused(workdir=tmp_path / "run", **files)
    for problem in (
        f"--generator={files['generator']}: ",
        "block3.c1.weight is missing",
        "block1.gamma has shape (2,) instead of (1,)",
        "fc.bias has shape () instead of (256,)",
        "block9x.weight is unknown",
    ):
        assert problem in output
    bad = tensors["generator"] | {"block1.affine0.batch_norm2d.num_batches_tracked": np.zeros(3)}
    write_pth(files["generator"], bad)
    output = refused(workdir=tmp_path / "run", **files)
    assert "num_batches_tracked has shape (3,) instead of ()" in output
    assert not [name for name in os.listdir(tmp_path) if name.startswith("run")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "discriminator.pth"}, r"--generator=.*missing; is this the file of a gen"),
        ({"discriminator": "none.pth"}, r"--discriminator=.*none\.pth: no tensor file at"),
        ({"generator": "captions.pickle"}, r"--generator=.*neither a PyTorch file"),
        ({"captions": "none.pickle"}, r"none\.pickle: there is no such file"),
        ({"captions": ""}, r"give --text_encoder=FILE and --captions=captions\.pickle"),
        ({"data": "my stars"}, r"config\.data\.name='my stars': must be at most 64 letters"),
        ({"output": "back"}, r"--output: cannot be combined with PyTorch files to read"),
        ({"workdir": "."}, r"--workdir=.*exists already; choose a new folder"),
    ],
)
def test_bad_flags_are_refused(change, message, files, refused, tmp_path):
    if change.keys() != {"data"}:
        change = {name: value and tmp_path / value for name, value in change.items()}
    before = sorted(os.listdir(tmp_path))
    assert re.search(message, refused(**{"workdir": tmp_path / "run", **files, **change}))
    assert sorted(os.listdir(tmp_path)) == before


def test_files_of_two_models_are_refused(files, refused, tensors, tmp_path):
    wider = to_pytorch("discriminator", noisy(discriminator_of(64, WIDTH, SENTENCE), 0))
    write_pth(files["discriminator"], wider)
    output = refused(workdir=tmp_path / "run", **files)
    assert f"data.image_size is 32 in --generator={files['generator']}, 64 in" in output
    save_captions(tmp_path, WORDS[:-1])
    output = refused(workdir=tmp_path / "run", **files)
    assert "has 9 words, but 10 have an embedding in --text_encoder=" in output


def test_a_folder_that_cannot_be_finished_is_not_left(files, run, monkeypatch, tmp_path):
    def fail(*arguments):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(convert, "state_from_weights", lambda *_: (None, {}))
    monkeypatch.setattr(convert.Checkpoints, "save", fail)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        run(workdir=tmp_path / "run", **files)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("run")]


# The vocabulary


def test_a_pickle_that_asks_for_code_is_refused_unrun(files, refused, tmp_path):
    mark = tmp_path / "ran"
    files["captions"].write_bytes(b"cos\nsystem\n(Vtouch %s\ntR." % bytes(mark))
    output = refused(workdir=tmp_path / "run", **files)
    assert "the pickle asks for" in output and "system" in output and not mark.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[], []], "not a captions.pickle"),
        ([[], [], {1: "a"}, {"a": 1}], "words by the ids 0, 1"),
        ([[], [], {0: "a"}, {"a": 0}], "the first one '<end>'"),
        ([[], [], {0: "<end>", 1: 5}, {}], "must be texts"),
        ([[], [], {0: "<end>", 1: "a"}, {"<end>": 0, "a": 2}], "do not agree"),
        ([[], [], {0: "<end>", 1: "a", 2: "a"}, {"<end>": 0, "a": 2}], "do not agree"),
    ],
)
def test_other_pickles_are_refused(content, message, tmp_path):
    (tmp_path / "captions.pickle").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        load_words(tmp_path / "captions.pickle")


def test_words_of_our_own_tokenizer_get_the_references_padding(tmp_path):
    save_words(tmp_path / "captions.pickle", ["<pad>", "<unk>", "red"])
    content = pickle.loads((tmp_path / "captions.pickle").read_bytes())
    by_id = {0: "<end>", 1: "<unk>", 2: "red"}
    assert content == [[], [], by_id, {"<end>": 0, "<unk>": 1, "red": 2}]


# Fine-tuning


@pytest.fixture(scope="module")
def source(converted):
    """The state in the folder `converted`, not to be changed."""
    return load_state(Workdir(converted))


@pytest.fixture(scope="module")
def converted(tensors, tmp_path_factory):
    """A work folder of converted weights."""
    folder = tmp_path_factory.mktemp("converted")
    flags = {"workdir": folder / "run"} | write_files(tensors, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["convert", *(f"--{k}={v}" for k, v in flags.items())])
        convert.main()
    return folder / "run"


def fine_tuning(converted):
    config = default_config()
    config.train.checkpoint = str(converted)
    config.generator.learning_rate = 0.5
    config.text_encoder.dropout = 0.25
    config.image_encoder.name = "inception_v3"
    return config


def test_fine_tuning_starts_from_converted_networks_with_its_own_rates(converted, source, tensors):
    config = with_warm_start_sizes(fine_tuning(converted))
    theirs = Workdir(converted).config()
    assert config.data.image_size == SIZE and config.generator.channels == WIDTH
    assert config.image_encoder == theirs.image_encoder and config.is_locked
    assert config.text_encoder.word_dim == WORD_DIM and config.text_encoder.dropout == 0.25
    assert config.generator.learning_rate == 0.5 and theirs.generator.learning_rate == 1e-4
    state = warm_start_state(config)
    given = network_variables(source)
    assert jax.tree.all(jax.tree.map(np.array_equal, network_variables(state), given))
    assert int(state.step) == 0 and state.ema is None
    encoder = to_pytorch("text_encoder", network_variables(state)["text_encoder"])
    assert same(encoder, tensors["text_encoder"])


def test_averages_start_from_the_converted_weights(converted):
    config = fine_tuning(converted)
    config.train.ema_decay = 0.9
    state = warm_start_state(with_warm_start_sizes(config))
    assert jax.tree.all(jax.tree.map(np.array_equal, state.ema["params"], state.generator))
    ours, theirs = (jax.tree.leaves(tree) for tree in (state.ema["params"], state.generator))
    assert not {map(id, ours)} & {map(id, theirs)}


def test_a_missing_warm_start_folder_is_named_with_its_key(tmp_path):
    message = r"config\.train\.checkpoint='.*none': no work folder or model folder"
    with pytest.raises(ConfigError, match=message):
        with_warm_start_sizes(fine_tuning(tmp_path / "none"))


def test_a_warm_start_folder_may_be_below_the_home_folder(converted, monkeypatch):
    monkeypatch.setenv("HOME", str(converted.parent))
    here, home = (fine_tuning(folder) for folder in (converted, f"~/{converted.name}"))
    assert with_warm_start_sizes(home).generator == with_warm_start_sizes(here).generator


def test_encoders_of_a_converted_folder_skip_stage_1(converted, source):
    config = Workdir(converted).config()
    config.damsm.checkpoint = str(converted)
    config.generator.channels = 4
    config.text_encoder.num_heads = 3  # Only BERT has them.
    other = source.replace(encoders=jax.tree.map(np.zeros_like, source.encoders))
    state = with_warm_start_encoders(other, config)
    assert jax.tree.all(jax.tree.map(np.array_equal, state.encoders, source.encoders))
    config.text_encoder.word_dim = 7
    config.data.image_size = 64
    problems = r"data\.image_size: 32 -> 64; text_encoder\.word_dim: 5 -> 7"
    with pytest.raises(ConfigError, match=rf"its encoders differ: {problems}; set these keys"):
        with_warm_start_encoders(state, config)


# Our own runs


@pytest.fixture
def trained(converted, source, tmp_path):
    """The converted networks as if they were trained here, with moving averages."""
    doubled = jax.tree.map(lambda leaf: 2 * leaf, source.generator)
    average = {"params": doubled, "batch_stats": source.batch_stats}
    workdir = Workdir(tmp_path / "run")
    workdir.write_config(Workdir(converted).config())
    workdir.write_tokenizer(Workdir(converted).tokenizer())
    return workdir, source.replace(step=np.int32(1234), ema=average)


def test_our_own_weights_are_written_for_a_strict_reader(trained, tensors, tmp_path, capsys):
    for raw, factor in ((False, 2), (True, 1)):
        folder = tmp_path / f"raw-{raw}"
        convert.convert_to_pytorch(*trained, str(folder), raw)
        generator = read_tensors(folder / "netG_1234.pth", keep_prefix=True)
        given = tensors["generator"]["block1.c1.weight"]
        np.testing.assert_array_equal(generator["module.block1.c1.weight"], factor * given)
        assert generator["module.block1.conv_mask.1.num_batches_tracked"] == 0
        discriminator = read_tensors(folder / "netD_1234.pth", keep_prefix=True)
        assert discriminator.keys() == {f"module.{name}" for name in tensors["discriminator"]}
        assert set(read_tensors(folder / "text_encoder_1234.pth")) == set(tensors["text_encoder"])
    assert "skipped image_encoder: not Inception v3" in capsys.readouterr().out


def test_networks_that_pytorch_cannot_load_are_skipped_and_named(trained, tmp_path, capsys):
    workdir, _ = trained
    config = workdir.config()
    config.generator.upsampling = "bilinear"
    config.text_encoder.name = "bert"
    workdir.write_config(config)
    convert.convert_to_pytorch(*trained, str(tmp_path / "out"), raw=False)
    output = capsys.readouterr().out
    assert "skipped generator: config.generator.modulation='reference' and upsampl" in output
    assert "skipped text_encoder: not a bi-LSTM over words" in output
    assert os.listdir(tmp_path / "out") == ["netD_1234.pth"]
    config.generator.update(upsampling="nearest", ssacn_blocks=3)
    config.text_encoder.update(name="lstm", normalize=True)
    config.discriminator.minibatch_stddev = True
    workdir.write_config(config)
    with pytest.raises(InputError, match="discriminator: config.discriminator.minibatch_stddev=Tr"):
        convert.convert_to_pytorch(*trained, str(tmp_path / "other"), raw=False)
    config.discriminator.projection_channels = 32
    workdir.write_config(config)
    with pytest.raises(InputError, match="can load none of its networks: ") as error:
        convert.convert_to_pytorch(*trained, str(tmp_path / "other"), raw=False)
    for reason in (
        "generator: it has plain blocks (ssacn_blocks=3)",
        "discriminator: config.discriminator.projection_channels=32, not 0",
        "text_encoder: config.text_encoder.normalize=True, not False",
        "image_encoder: not Inception v3",
    ):
        assert reason in str(error.value)
    config.generator.update(ssacn_blocks=7, conditioning_augmentation=True)
    workdir.write_config(config)
    with pytest.raises(InputError, match="generator: config.generator.conditioning_augmentation=T"):
        convert.convert_to_pytorch(*trained, str(tmp_path / "other"), raw=False)
    assert not (tmp_path / "other").exists()
