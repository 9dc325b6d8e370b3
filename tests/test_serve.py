"""The page to paint in: its answers, its command, and the page in Chromium."""

import argparse
import base64
import contextlib
import gc
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_run
from PIL import Image

from ssagan_jax import serve
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.errors import InputError
from ssagan_jax.inference.model_loading import load_state
from ssagan_jax.serving import painting, run_view
from ssagan_jax.serving.markup import animation_html, escape_text, masks_html, notes_html
from ssagan_jax.serving.served_model import ServedModel

RED, BLUE = tiny_run.CAPTIONS
MARKUP = "<img src=x onerror=document.title='hacked'> **red** ${7*7} {{value}}"


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    workdir = tiny_run.make_run(tmp_path_factory.mktemp("serve") / "run", tiny_config)
    for step in (20, 30):
        Image.new("RGB", (64, 48), (step, 0, 0)).save(workdir.sample_grid(step))
    return workdir


@pytest.fixture(scope="module")
def served(run):
    return ServedModel(str(run.path))


def pixels(images):
    return np.stack([np.asarray(image) for image in images])


# Answers


def test_painting_gives_the_model_s_images_with_masks_and_notes(served):
    model = served.model()
    # JSON has no integers of its own.
    answer = painting.paint(model, "a red zebra, a blue zebra", 3.0, 5.0, 0.5)
    wanted = model.paint("a red zebra, a blue zebra", 3, 5, truncation=0.5, masks=True)
    np.testing.assert_array_equal(pixels(answer.images), pixels(wanted.images))
    for small, large in zip(answer.masks[1], wanted.masks[1], strict=True):
        np.testing.assert_array_equal(np.asarray(small.resize((32, 32), 0)), np.asarray(large))
    assert [mask.size for mask in answer.masks[2]] == [(n, n) for n in (4, 8, 16, 32)]
    assert answer.notes[0].endswith("training captions: zebra")
    assert answer.notes[1].startswith("3 pictures of step 30 in")
    assert len(painting.paint(model, RED, 1, 5, 1).notes) == 1


def test_interpolation_goes_from_the_first_to_the_second_caption(served):
    model = served.model()
    answer = painting.interpolate(model, RED, "a blue unicorn", 4, 5, 1)
    assert len(answer.images) == 4 and "unicorn" in answer.notes[0]
    np.testing.assert_array_equal(pixels(answer.images[:1]), pixels(model.paint(RED, seed=5)))
    with Image.open(io.BytesIO(gif_of(animation_html(answer.images)))) as animation:
        assert animation.n_frames == 4 and animation.size == (32, 32)


def gif_of(html):
    return base64.b64decode(re.search(r"data:image/gif;base64,([^\"]+)", html)[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", 1, 0, 1), "the caption is empty"),
        ((" \n", 1, 0, 1), "the caption is empty"),
        ((None, 1, 0, 1), "the caption is empty"),
        (("!!!", 1, 0, 1), "'!!!'"),
        (("a" * 501, 1, 0, 1), "501 characters; at most 500"),
        ((RED, 17, 0, 1), "is 17; it must be from 1 to 16"),
        ((RED, 0, 0, 1), "must be from 1 to 16"),
        ((RED, 1.5, 0, 1), "must be from 1 to 16"),
        ((RED, "2", 0, 1), "must be from 1 to 16"),
        ((RED, True, 0, 1), "num=True: must be 1 to 100,000"),
        ((RED, 1, None, 1), "seed=None"),
        ((RED, 1, -1, 1), "seed=-1"),
        ((RED, 1, 0, 1.1), "truncation=1.1"),
        ((RED, 1, 0, float("nan")), "truncation=nan"),
        ((RED, 1, 0, "1"), "truncation='1'"),
    ],
)
def test_values_that_are_not_allowed_are_refused(served, values, message):
    with pytest.raises(InputError, match=re.escape(message)):
        painting.paint(served.model(), *values)


def test_both_captions_of_an_interpolation_are_checked(served):
    for captions, name in (("", RED), "first caption"), ((RED, "b" * 600), "second has 600"):
        with pytest.raises(InputError, match=name):
            painting.interpolate(served.model(), *captions, 4, 0, 1)
    with pytest.raises(InputError, match="from 2 to 16"):
        painting.interpolate(served.model(), RED, BLUE, 1, 0, 1)


def test_text_is_never_markup(served):
    shown = notes_html([MARKUP])
    assert "<img" not in shown and not re.search(r"[{}$]", shown.replace("}", ""))
    assert escape_text("a & b") == "a &amp; b"
    answer = painting.paint(served.model(), f"a red car {MARKUP}", 2, 0, 1)
    assert "onerror" in answer.notes[0] and "<img src=x" not in notes_html(answer.notes)
    masks = masks_html(answer)
    assert masks.count("<img") == 2 * (1 + 4) and "32 &times; 32" in masks


# Checkpoints


def test_newer_checkpoints_are_offered_and_the_latest_is_used(tiny_config, tmp_path):
    run = tiny_run.make_run(tmp_path / "run", tiny_config)
    served = ServedModel(str(run.path), 10)
    assert served.choices() == ["latest", "30", "10"] and served.initial == "10"
    assert served.model("10").step == 10 and served.model().step == 30
    assert not served.is_trained(served.model("10")) and served.is_trained(served.model())
    state = load_state(run, 30)
    checkpoints = Checkpoints(run.checkpoints, 2, run.tokenizer().digest)
    changed = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(0), state)
    checkpoints.save(changed.replace(step=np.int32(40)), None)
    checkpoints.close()
    assert served.choices()[:2] == ["latest", "40"]
    assert served.model().step == 40
    assert served.model().sampler is served.model("30").sampler
    with pytest.raises(InputError, match="'50'; it must be one of latest, 40, 30"):
        served.model("50")


def test_a_damaged_checkpoint_is_not_replaced_by_another_under_its_name(tiny_config, tmp_path):
    run = tiny_run.make_run(tmp_path / "run", tiny_config)
    for file in (run.checkpoints / "30").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    served = ServedModel(str(run.path))
    assert served.model().step == 10
    with pytest.raises(InputError, match="30"):
        served.model("30")
    assert served.model("10").step == 10


# The run


def test_the_run_is_shown_with_its_grids_and_changes_with_its_files(run):
    shown = run_view.run_html(run)
    # Without TensorBoard events, which a run that has just begun lacks too.
    assert "TensorBoard events" in shown and str(run.path) not in shown
    image, title = run_view.sample_grid(run, -1)
    assert title == "step 30, epoch 2.0" and image.getpixel((0, 0)) == (30, 0, 0)
    assert (
        run_view.sample_grid(run, 0)[1] == run_view.sample_grid(run, -9)[1] == "step 20, epoch 1.0"
    )
    assert run_view.sample_grid(run, 99)[1] == title


# The command


@pytest.fixture
def refused(run, monkeypatch, capsys):
    def refused(*flags, workdir=run.path):
        monkeypatch.setattr(sys, "argv", ["serve", f"--workdir={workdir}", *flags])
        with pytest.raises(SystemExit) as caught:
            serve.main()
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
        return error

    return refused


def test_a_missing_extra_is_named_with_the_command_that_installs_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "(gradio); run pip install 'ssagan_jax[web]'" in refused()


def test_addresses_that_cannot_be_used_are_refused_before_the_model_is_loaded(refused, monkeypatch):
    monkeypatch.setattr(serve, "check_gradio_installed", lambda: None)
    monkeypatch.setattr(serve, "ServedModel", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port={port}: cannot be used (Address already in use)" in refused(
            f"--port={port}"
        )
    assert "--port=0: must be from 1" in refused("--port=0")
    assert "--host=no such host: is not a valid address" in refused("--host=no such host")
    assert "--host=192.0.2.1 --port=7860: cannot be used" in refused("--host=192.0.2.1")


def test_folders_without_a_model_are_refused(refused, monkeypatch, tiny_config, tmp_path):
    monkeypatch.setattr(serve, "check_gradio_installed", lambda: None)
    port = f"--port={free_port()}"
    assert "no trained model here" in refused(port, workdir=tmp_path)
    assert "7" in refused(port, "--checkpoint=7")
    run = tiny_run.make_run(tmp_path / "converted", tiny_config)
    safetensors.numpy.save_file({}, run.pytorch_extras, {"text_encoder": ""})
    assert "its generator is untrained" in refused(port, workdir=run.path)


def test_what_host_and_share_mean_is_told():
    told = serve.describe_access("127.0.0.1", "http://127.0.0.1:1/", None)
    assert len(told) == 2 and "only this machine" in told[1]
    told = serve.describe_access("0.0.0.0", "http://localhost:1/", "https://x.gradio.live")
    assert "without a password" in told[1] and told[2] == "public link: https://x.gradio.live"


@pytest.mark.parametrize(
    ("number", "ready", "code", "last"),
    [
        (signal.SIGTERM, "; compiling", 130, "interrupted"),
        (signal.SIGINT, "only this machine", 0, "stopped"),
    ],
)
def test_ctrl_c_and_sigterm_end_the_command_and_delete_its_pictures(
    run, tmp_path, number, ready, code, last
):
    pytest.importorskip("gradio", reason="pip install -e '.[web]' to test the page")
    port = free_port()
    command = [sys.executable, "-m", "ssagan_jax.serve", f"--workdir={run.path}", f"--port={port}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        # Python leaves it ignored if it was, as in background jobs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    lines = iter(process.stdout.readline, "")
    assert any(ready in line for line in lines)
    with contextlib.ExitStack() as stack:
        if code == 0:  # A page that is open must not hold it up.
            page = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            page.sendall(b"GET /gradio_api/heartbeat/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert page.recv(15) == b"HTTP/1.1 200 OK"
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output.splitlines()[-1]) == (code, last)
    assert not list(tmp_path.glob("ssagan_jax_serve_*"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_while_the_garbage_collector_runs_is_not_lost(monkeypatch):
    class Served:
        initial, step = "", 7

        def __init__(self, *_):
            pass

        def model(self, _):
            return self

        def paint(self, *_, **__):
            gc.callbacks.append(send)
            gc.collect()

    def send(*_):
        gc.callbacks.remove(send)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(serve, "check_gradio_installed", lambda: None)
    monkeypatch.setattr(serve, "ServedModel", Served)
    page = types.SimpleNamespace(launched=None)  # The real one needs Gradio.
    monkeypatch.setitem(sys.modules, "ssagan_jax.serving.page", page)
    flags = argparse.Namespace(
        workdir="x", checkpoint=None, host="127.0.0.1", port=free_port(), share=False
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt):
            serve.serve(flags)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_public_link_is_explained_before_anything_is_loaded(monkeypatch, capsys):
    def load(*_):
        raise InputError("loading")

    monkeypatch.setattr(serve, "check_gradio_installed", lambda: None)
    monkeypatch.setattr(serve, "ServedModel", load)
    monkeypatch.setattr(sys, "argv", ["serve", "--workdir=x", f"--port={free_port()}", "--share"])
    with pytest.raises(SystemExit, match="2"):
        serve.main()
    out, error = capsys.readouterr()
    assert out.startswith("--share: everyone who knows the public link") and out.count("\n") == 1
    assert error == "error: loading\n"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_page_is_reached_without_the_proxy_of_the_environment(served, monkeypatch, host):
    pytest.importorskip("gradio", reason="pip install -e '.[web]' to test the page")
    from ssagan_jax.serving.page import launched

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    with launched(served, host, free_port(), False) as page:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(page.local_url).status == 200
    assert os.environ["no_proxy"].startswith("example.org,")


# In the browser


@pytest.fixture(scope="module")
def address(served):
    pytest.importorskip("gradio", reason="pip install -e '.[web]' to test the page")
    from ssagan_jax.serving.page import launched

    with launched(served, "127.0.0.1", free_port(), False) as page:
        yield page.local_url


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture
def page(browser, address):
    """A page that has loaded; it must ask no other host and log no error."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    hosts, errors = set(), []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda text: errors.append(text.text) if text.type == "error" else None)
    page.goto(address)
    page.get_by_role("button", name="Paint", exact=True).wait_for()
    yield page
    assert hosts - {""} == {urlsplit(address).netloc} and errors == []
    page.close()


def paint(page, note):
    page.get_by_role("button", name="Paint", exact=True).click()
    page.locator(".notes", has_text=note).first.wait_for()


def shown_images(page):
    """The pictures as the browser downloads them."""
    urls = page.locator(".pictures img").evaluate_all("images => images.map(image => image.src)")
    bodies = [page.request.get(url).body() for url in urls]
    return pixels([Image.open(io.BytesIO(body)) for body in bodies])


def test_the_page_paints_the_model_s_images(page, served):
    paint(page, "4 pictures of step 30")
    np.testing.assert_array_equal(shown_images(page), pixels(served.model().paint(RED, 4, 0)))
    assert page.locator(".masks img").count() == 4 * 5
    with Image.open(download(page)) as image:
        assert image.size == (32, 32) and image.format == "PNG"


def download(page):
    """The first picture, opened and downloaded with its button."""
    page.locator(".pictures img").first.click()
    with page.expect_download() as event:
        page.get_by_label("Download").first.click()
    return event.value.path()


def test_a_new_seed_paints_other_images_and_its_number_paints_them_again(page, served):
    paint(page, "4 pictures")
    seed = page.get_by_label("Seed").first
    first = page.locator(".pictures img").first
    before = first.get_attribute("src")
    page.get_by_role("button", name="New seed").first.click()
    first.and_(page.locator(f':not([src="{before}"])')).wait_for()
    wanted = served.model().paint(RED, 4, int(seed.input_value()))
    assert seed.input_value() != "0"
    np.testing.assert_array_equal(shown_images(page), pixels(wanted))


def test_unknown_words_are_named_and_markup_stays_text(page):
    caption = page.get_by_label("Caption", exact=True)
    caption.fill(f"a red zebra {MARKUP}")
    paint(page, "zebra")
    notes = page.locator(".notes").first
    assert "onerror" in notes.inner_text() and "zebra" in notes.inner_text()
    assert page.locator("img[src=x]").count() == 0 and page.title() == "Images from captions"


def test_bad_input_is_refused_in_a_message_that_is_text(page):
    caption = page.get_by_label("Caption", exact=True)
    for text, message in (("", "the caption is empty"), ("<!-- ! --> <>", "has no word")):
        caption.fill(text)
        page.get_by_role("button", name="Paint", exact=True).click()
        page.get_by_text(message).first.wait_for()
    caption.fill("a" * 600)
    assert len(caption.input_value()) == 500


def test_interpolation_shows_an_animation_and_its_pictures(page):
    page.get_by_role("tab", name="Interpolate").click()
    page.get_by_role("button", name="Interpolate").click()
    page.locator(".animation img").wait_for()
    assert page.get_by_text("Download the GIF").get_attribute("download") == "interpolation.gif"


def test_the_run_tab_shows_its_state_and_sample_grids(page):
    page.get_by_role("tab", name="Run").click()
    page.locator(".run.prose", has_text="TensorBoard events").wait_for(timeout=60_000)
    page.get_by_text("Sample grid: step 30, epoch 2.0").wait_for()


def test_nothing_is_wider_than_a_phone(page):
    paint(page, "4 pictures")
    for tab in ("Paint", "Interpolate", "Run"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_fifty_requests_at_once_are_answered_or_refused(address, served, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # Where the client puts each answer.
    client_class = pytest.importorskip("gradio_client").Client
    client = client_class(address, download_files=tmp_path, verbose=False)

    def request(seed):
        try:
            gallery, *_ = client.predict(
                checkpoint="latest", caption=RED, num=4, seed=seed, truncation=1, api_name="/paint"
            )
        except Exception as error:
            return str(error)
        with Image.open(gallery[0]["image"]) as image:
            return np.asarray(image)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(request, range(50)))
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) < 50 and all("queue is full" in text.lower() for text in refused)
    for seed, answer in enumerate(answers):
        if not isinstance(answer, str):
            np.testing.assert_array_equal(answer, np.asarray(served.model().paint(RED, 1, seed)[0]))
    assert not isinstance(request(51), str)
    for values, message in (
        ((MARKUP, 99, 0, 1), "99"),
        (("a" * 501, 1, 0, 1), "501 characters"),
    ):
        with pytest.raises(Exception, match=message):
            client.predict("latest", *values, api_name="/paint")


def test_every_answer_forbids_other_hosts_and_files_are_not_served(address, run):
    for path in ("", "config"):
        with urllib.request.urlopen(address + path) as answer:
            assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    with pytest.raises(urllib.error.HTTPError, match="403|404"):
        urllib.request.urlopen(f"{address}gradio_api/file={run.path}/config.json")
