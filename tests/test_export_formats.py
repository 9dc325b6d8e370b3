"""A trained model as ONNX, StableHLO and a web page, against JAX."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run

from ssagan_jax import export
from ssagan_jax.data.tokenizer import TokenizerError, fixed_vocab_tokenizer, learn_tokenizer
from ssagan_jax.data.toy_cars import builder as toy_cars
from ssagan_jax.exporting import web
from ssagan_jax.exporting.generate_function import (
    ExportError,
    check_outputs,
    example_inputs,
    generate_function,
)
from ssagan_jax.exporting.onnx_model import convert_to_onnx
from ssagan_jax.exporting.stablehlo_model import convert_to_stablehlo
from ssagan_jax.inference.model_loading import load_model
from ssagan_jax.inference.sampler import sample_noise

PAGE = Path(web.__file__).with_name("web_page")
RUNTIME = os.environ.get("SSAGAN_ONNXRUNTIME_WEB")
BERT = {
    "text_encoder__name": "bert",
    "tokenizer__kind": "wordpiece",
    "text_encoder__hidden_size": 8,
    "text_encoder__num_heads": 2,
    "text_encoder__num_layers": 1,
    "text_encoder__intermediate_size": 8,
}
MODELS = {
    "lstm": {"generator__upsampling": "bilinear"},
    "bert": BERT,
    "bert, mean": BERT
    | {
        "text_encoder__pooling": "mean",
        "text_encoder__hidden_act": "gelu_new",
        "generator__modulation": "paper",
        "generator__ssacn_blocks": 2,
    },
}


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """Work folders by name, made when they are asked for."""
    folder = tmp_path_factory.mktemp("runs")

    @functools.cache
    def make(name):
        return tiny_run.make_run(folder / name, tiny_config, **MODELS[name])

    return make


def command(monkeypatch, run, output, *flags):
    arguments = [f"--workdir={run.path}", f"--output={output}", *flags]
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    export.main()


@pytest.mark.parametrize("name", MODELS)
def test_onnx_agrees_with_jax(runs, name, measured):
    pytest.importorskip("jax2onnx", reason="pip install -e '.[onnx]' to test ONNX")
    model = load_model(runs(name).path)
    content, difference = convert_to_onnx(model)
    measured(f"ONNX, {name}", "JAX", difference, 1e-4)
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [(each.name, each.type) for each in session.get_inputs()] == [
        ("tokens", "tensor(int32)"),
        ("mask", "tensor(bool)"),
        ("noise", "tensor(float)"),
    ]
    masks = 2 if name == "bert, mean" else 4
    names = ["image", "mask_4", "mask_8", "mask_16", "mask_32"][: masks + 1]
    assert [each.name for each in session.get_outputs()] == names
    tokens, mask, noise = example_inputs(model, 5)
    feeds = {"tokens": tokens, "mask": mask, "noise": noise}
    outputs = session.run(None, feeds)
    assert [output.shape for output in outputs] == [
        (5, 32, 32, 3),
        *((5, 4 * 2**k, 4 * 2**k, 1) for k in range(masks)),
    ]
    encoded = [model.tokenizer.encode(caption, 6) for caption in tiny_run.CAPTIONS]
    tokens, mask = map(np.stack, zip(*encoded, strict=True))
    (image,) = session.run(["image"], {"tokens": tokens, "mask": mask, "noise": noise[:2]})
    wanted = model.generate(tiny_run.CAPTIONS, noise[:2])
    assert wanted.std() > 10
    assert np.abs((image + 1) * 127.5 - wanted).max() <= 0.51  # rounding


@pytest.mark.parametrize("name", ["lstm", "bert"])
def test_stablehlo_agrees_with_jax(runs, name, measured):
    model = load_model(runs(name).path)
    content, difference = convert_to_stablehlo(model)
    measured(f"StableHLO, {name}", "JAX", difference, 1e-5)
    exported = jax.export.deserialize(bytearray(content))
    assert {"cpu", "cuda", "tpu"} <= set(exported.platforms)
    assert exported.in_avals[0].shape[1:] == (6,) and exported.out_avals[0].shape[1:] == (32, 32, 3)


def test_a_conversion_that_computes_something_else_is_refused(runs):
    model = load_model(runs("lstm").path)

    def call(*inputs):
        image, *masks = jax.jit(generate_function(model))(*inputs)
        return [image + 0.01, *masks]

    with pytest.raises(ExportError, match=r"--onnx: differs from JAX by 0\.01.*not written"):
        check_outputs("--onnx", model, call, (2,))


# Bad input


@pytest.fixture
def refused(runs, tmp_path, monkeypatch, capsys):
    def refused(*flags):
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, runs("lstm"), tmp_path / "out", *flags)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return error

    return refused


def test_a_missing_extra_is_named_with_the_command_that_installs_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert "(jax2onnx); run pip install 'ssagan_jax[onnx]'" in refused("--onnx")
    assert "pip install -e '.[onnx]'" in refused("--web")


def test_a_missing_runtime_is_said_with_what_to_do(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(export.onnx_model, "check_onnx_installed", lambda: None)
    assert f"--onnxruntime_web={tmp_path}: has no ort.wasm.bundle" in refused(
        "--web", f"--onnxruntime_web={tmp_path}"
    )
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "cannot be fetched (npm is not installed); on a machine with" in refused("--web")
    failing = tmp_path / "npm"
    failing.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    failing.chmod(0o700)
    monkeypatch.setattr(shutil, "which", lambda _: str(failing))
    message = refused("--web")
    assert "(no network)" in message and "`npm pack onnxruntime-web@" in message


def test_a_tokenizer_that_the_page_does_not_know_is_refused():
    tokenizer = learn_tokenizer("wordpiece", tiny_run.CAPTIONS, 200)
    web.check_tokenizer(tokenizer)
    content = json.loads(tokenizer.to_json())
    for normalizer in ({"type": "NFKC"}, None):
        content["tokenizer"]["normalizer"] = normalizer
        other = web.Tokenizer.__new__(web.Tokenizer)
        other.kind, other.to_json = "wordpiece", lambda: json.dumps(content)
        with pytest.raises(ExportError, match="--web: its tokenizer is not one of BERT's"):
            web.check_tokenizer(other)


# The page's tokenizer

HARD = [
    "A Café, naïve Ünïcode   and\ttabs!",
    "don't_stop 3.5m² ½ x²y $5 <b>bold</b> a&b",
    "\u200bzero\u200dwidth \ufffd \x00 control\x07",
    "İSTANBUL ΣΑΣ ẞ ŉ Ǆ",
    "हिन्दी がっこう か\u3099 中文字符 한국어 ไทย",
    "[CLS] a [MASK]ed car [SEP] <pad> <unk> <end>",
    "🚗 red🚗car ❤️ 👩‍🚀",
    "x" * 101,
    "a-b_c.d e'f “quoted” – dash…",
]
IDS = """
import fs from "node:fs";
import { Tokenizer } from "./tokenizer.js";
const { file, captions, length } = JSON.parse(fs.readFileSync("input.json", "utf8"));
const tokenizer = new Tokenizer(file);
const encode = (caption) => {
  try {
    const { tokens, mask } = tokenizer.encode(caption, length);
    return [Array.from(tokens), Array.from(mask)];
  } catch (error) {
    return error.message;
  }
};
const result = captions.map((text) => [
  tokenizer.split(text).flatMap((part) => part.ids), tokenizer.unknownWords(text), encode(text),
]);
process.stdout.write(JSON.stringify(result));
"""


def source_captions(source):
    if source == "hard":
        return HARD
    if source == "toy cars":
        cars = [*toy_cars.cars("train"), *toy_cars.cars("validation")]
        return [sentence for car in cars for sentence in toy_cars.sentences(car)]
    folder = os.environ.get("SSAGAN_BIRDS")
    if not folder:
        pytest.skip("set SSAGAN_BIRDS to a folder with text/<species>/<photo>.txt")
    files = sorted(Path(folder).glob("text/*/*.txt"))
    assert files, f"SSAGAN_BIRDS={folder} has no text/<species>/<photo>.txt"
    texts = [file.read_text(encoding="utf-8-sig", errors="replace") for file in files]
    return [line for text in texts for line in text.split("\n") if line.strip()]


needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def run_node(folder, program):
    """What a module prints that is run beside a copy of the page."""
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "program.js").write_text(program)
    done = subprocess.run(["node", "program.js"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize("source", ["hard", "toy cars", "birds"])
@pytest.mark.parametrize("kind", ["words", "wordpiece", "listed_words"])
def test_javascript_computes_the_same_ids(kind, source, tmp_path):
    captions = source_captions(source)
    if kind == "listed_words":
        words = learn_tokenizer("words", captions, 60).entries()[2:]
        tokenizer = fixed_vocab_tokenizer(["<end>", *words, "caf", "na"])
    else:
        # Few entries, so that there are unknown words, and words in several pieces.
        tokenizer = learn_tokenizer(kind, captions, 200)
    file = json.loads(tokenizer.to_json())
    (tmp_path / "input.json").write_text(json.dumps(dict(file=file, captions=captions, length=7)))
    results = run_node(tmp_path, IDS)
    assert len(results) == len(captions)
    for caption, (ids, unknown, encoded) in zip(captions, results, strict=True):
        assert ids == tokenizer.ids(caption), caption
        try:
            tokens, mask = tokenizer.encode(caption, 7)
        except TokenizerError:
            assert encoded == "The caption has no word that the model knows."
            continue
        assert encoded == [tokens.tolist(), mask.astype(int).tolist()]
        if caption.isascii():
            expected = dict.fromkeys(word.lower() for word in tokenizer.unknown_words(caption))
            assert unknown == list(expected), caption


@needs_node
def test_noise_is_standard_normal_and_depends_on_the_seed(tmp_path):
    program = """
    import { sampleNoise, truncateNoise } from "./noise.js";
    const rows = [0, 1, 0, 4294967295].map((seed) => sampleNoise(seed, 20000));
    rows.push(truncateNoise(rows[0], 1), truncateNoise(rows[0], 0.5));
    process.stdout.write(JSON.stringify(rows.map((row) => Array.from(row))));
    """
    *rows, same, truncated = run_node(tmp_path, program)
    assert same == rows[0]
    np.testing.assert_allclose(truncated, np.clip(rows[0], -2, 2) * 0.5, rtol=1e-6)
    rows = np.array(rows)
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_allclose(rows.mean(1), 0, atol=0.03)
    np.testing.assert_allclose(rows.std(1), 1, atol=0.03)
    np.testing.assert_allclose((rows**4).mean(1), 3, atol=0.3)
    off_diagonal = np.corrcoef(rows[[0, 1, 3]])[np.triu_indices(3, 1)]
    assert np.abs(off_diagonal).max() < 0.03
    assert np.abs(np.corrcoef(rows[0, 1:], rows[0, :-1])[0, 1]) < 0.03


# The page in a browser


def test_the_page_names_no_other_host():
    text = "".join(path.read_text() for path in PAGE.iterdir())
    assert set(re.findall(r"\bhttps?:.{0,16}", text)) == {"http://localhost:8000"}
    assert not re.search(r"""(src|href|url\(|import)\W{0,3}//""", text)
    assert "default-src 'self'" in text and "innerHTML" not in text


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


class QuietHandler(SimpleHTTPRequestHandler):
    """A plain file server."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module", params=["lstm", "bert"])
def served(request, runs, tmp_path_factory):
    """The address of an exported page, and the model."""
    pytest.importorskip("jax2onnx", reason="pip install -e '.[onnx]' to test the page")
    if not RUNTIME:
        pytest.skip("set SSAGAN_ONNXRUNTIME_WEB to the unpacked npm package onnxruntime-web")
    run, output = runs(request.param), tmp_path_factory.mktemp("exported") / "cars"
    with pytest.MonkeyPatch.context() as patch:
        command(patch, run, output, "--web", f"--onnxruntime_web={RUNTIME}", "--license=mit")
    handler = functools.partial(QuietHandler, directory=output / "web")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", load_model(run.path)
        server.shutdown()


GENERATE = """async ([caption, noise]) => {
  const { loadGenerator } = await import("./generator.js");
  const generator = await loadGenerator();
  const images = [];
  for (const row of noise) {
    images.push(Array.from((await generator.generate(caption, new Float32Array(row))).data));
  }
  return images;
}"""


def test_the_page_generates_the_same_images(browser, served, measured):
    address, model = served
    page = browser.new_page(viewport={"width": 390, "height": 844})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(address)
    page.wait_for_selector("button[name=paint]:enabled", timeout=60_000)
    assert page.inner_text("h1") == "Images from captions: cars"
    caption, noise = "a red car in the city", sample_noise(3, 3, 8)
    images = page.evaluate(GENERATE, [caption, noise.tolist()])
    wanted = model.generate([caption] * 3, noise)
    assert wanted.std() > 10
    got = np.array(images).reshape(3, 32, 32, 4)
    measured("web page", "sample, gray levels", np.abs(got[..., :3] - wanted).max(), 2)
    assert (got[..., 3] == 255).all()

    # As a person uses it.
    page.fill("textarea", "a red <b>spaceship</b>")
    page.click("button[name=paint]")
    page.wait_for_selector("#images figure:nth-child(4)")
    page.wait_for_selector("button[name=paint]:enabled")
    unknown = ", ".join(model.tokenizer.unknown_words("a red <b>spaceship</b>"))
    assert "spaceship" in unknown
    assert f"Words it does not know: {unknown}." in page.inner_text("#status")
    first = page.get_attribute("#images a", "href")
    assert first.startswith("data:image/png") and page.locator("#images b").count() == 0
    page.click("#new-seed")
    page.wait_for_selector("button[name=paint]:enabled")
    page.wait_for_selector("#images figure:nth-child(4)")
    assert page.get_attribute("#images a", "href") != first
    page.fill("input[name=truncation]", "0")
    page.click("button[name=paint]")
    page.wait_for_selector("#images figure:nth-child(4)")
    page.wait_for_selector("button[name=paint]:enabled")
    links = page.locator("#images a").evaluate_all("links => links.map((link) => link.href)")
    assert len(links) == 4 and len(set(links)) == 1
    page.fill("textarea", "\u200b")
    page.click("button[name=paint]")
    page.wait_for_selector("button[name=paint]:enabled")
    assert "no word that the model knows" in page.inner_text("#status")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert errors == []
    assert all(url.startswith((address, "data:")) for url in requests)
    page.close()
