"""The page, built with Gradio, which no other module imports."""

import contextlib
import functools
import io
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# Read when Gradio is imported; it reports each start to its makers otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from gradio import tunneling
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ssagan_jax.errors import InputError
from ssagan_jax.serving import painting, run_view
from ssagan_jax.serving.markup import animation_html, escape_text, masks_html, notes_html
from ssagan_jax.serving.served_model import ServedModel
from ssagan_jax.serving.style import CSS

# Requests that wait for the model; further ones are refused.
QUEUE_SIZE = 20
# Each kind of work is done for one request at a time.
_MODEL = {"concurrency_id": "model"}
_RUN = {"concurrency_id": "run"}
_PRIVATE = {"api_visibility": "private"}
_REFRESH_SECONDS = 30
_MAX_SEED = 2**31 - 1
_MAX_SESSIONS = 200
_UPLOAD_BYTES = 2**16  # Nothing is uploaded.
_FONTS = ("system-ui", "sans-serif")
# The browser itself refuses requests to other hosts.
_CONTENT_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'"
)


class _ContentPolicy:
    """ASGI middleware that adds the policy to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _CONTENT_POLICY.encode())
                message = message | {"headers": [*message.get("headers", []), policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


@contextlib.contextmanager
def launched(served: ServedModel, host: str, port: int, share: bool) -> Iterator[gr.Blocks]:
    """Serves the page until the context ends; its pictures are then deleted.

    Raises:
      InputError: the port was taken meanwhile, or no public link can be made.
    """
    with tempfile.TemporaryDirectory(prefix="ssagan_jax_serve_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(served)
        size = served.model().config.data.image_size
        css = CSS.replace("PIXELS", "pixelated" if size < 128 else "auto")
        quiet = contextlib.redirect_stdout(io.StringIO())  # The command tells about the link.
        # Gradio asks the page itself whether it works, not by way of a proxy.
        for name in ("no_proxy", "NO_PROXY"):
            known = os.environ.get(name)
            os.environ[name] = ",".join(filter(None, (known, "localhost,127.0.0.1,::1", host)))
        try:
            with quiet:
                page.launch(
                    server_name=f"[{host}]" if ":" in host else host,
                    server_port=port,
                    share=share,
                    quiet=True,
                    prevent_thread_lock=True,
                    theme=gr.themes.Default(font=_FONTS, font_mono=("monospace",)),
                    css=css,
                    footer_links=[],
                    ssr_mode=False,
                    mcp_server=False,
                    run_history=False,
                    enable_monitoring=False,
                    max_file_size=_UPLOAD_BYTES,
                    state_session_capacity=_MAX_SESSIONS,
                    app_kwargs={"middleware": [Middleware(_ContentPolicy)]},
                )
        except OSError as error:
            raise InputError(f"--port={port}: cannot be used ({error}); choose another") from error
        try:
            if share and not page.share_url:
                raise InputError(
                    "--share: Gradio's server gives no link; check the network, or leave --share "
                    "out to serve the page without it"
                )
            yield page
        finally:
            with quiet:
                for tunnel in tunneling.CURRENT_TUNNELS:
                    tunnel.kill()
            page.close(verbose=False)


def build_page(served: ServedModel) -> gr.Blocks:
    """The page with all its events, not yet served."""
    model = served.model()
    with gr.Blocks(title="Images from captions", delete_cache=(600, 3600)) as page:
        gr.HTML("<h1>Images from captions</h1>")
        checkpoint = gr.Dropdown(
            served.choices(),
            value=served.initial,
            label="Checkpoint",
            info="A run that still trains offers newer ones as they come.",
            visible=served.workdir is not None,
        )
        with gr.Tab("Paint"):
            _add_paint_tab(served, checkpoint, list(model.example_captions))
        with gr.Tab("Interpolate"):
            _add_interpolation_tab(served, checkpoint, list(model.example_captions))
        if served.workdir is not None:
            with gr.Tab("Run") as tab:
                _add_run_tab(served, checkpoint, tab, page)
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=1)
    return page


def _add_paint_tab(served: ServedModel, checkpoint: gr.Dropdown, examples: list[str]) -> None:
    caption = _caption_box("Caption", examples)
    if examples:
        gr.Examples([[text] for text in examples], caption, label="Captions of the data")
    with gr.Row():
        num = gr.Slider(1, painting.MAX_IMAGES, 4, step=1, label="Pictures")
        seed, truncation = _noise_controls()
    with gr.Row():
        button = gr.Button("Paint", variant="primary")
        new_seed = gr.Button("New seed")
    notes = gr.HTML(elem_classes="notes")
    with gr.Row():
        pictures = _gallery("Pictures")
        with gr.Column():
            gr.HTML("<p>Fusion masks, coarse to fine; white: where the caption acts</p>")
            masks = gr.HTML()

    @_refusing
    def paint(
        checkpoint: str, caption: Any, num: Any, seed: Any, truncation: Any
    ) -> tuple[Any, ...]:
        model = served.model(checkpoint)
        result = painting.paint(model, caption, num, seed, truncation)
        return (
            [(image, str(number)) for number, image in enumerate(result.images, 1)],
            masks_html(result),
            notes_html(_notes(served, result, model)),
        )

    inputs = [checkpoint, caption, num, seed, truncation]
    outputs = [pictures, masks, notes]
    gr.on([button.click, caption.submit], paint, inputs, outputs, api_name="paint", **_MODEL)
    changed = new_seed.click(_random_seed, None, seed, queue=False, **_PRIVATE)
    changed.then(paint, inputs, outputs, **_MODEL, **_PRIVATE)


def _add_interpolation_tab(
    served: ServedModel, checkpoint: gr.Dropdown, examples: list[str]
) -> None:
    with gr.Row():
        start = _caption_box("From the caption", examples)
        end = _caption_box("To the caption", examples[1:])
    with gr.Row():
        steps = gr.Slider(2, painting.MAX_IMAGES, 8, step=1, label="Pictures")
        seed, truncation = _noise_controls()
    with gr.Row():
        button = gr.Button("Interpolate", variant="primary")
        new_seed = gr.Button("New seed")
    notes = gr.HTML(elem_classes="notes")
    with gr.Row():
        animation = gr.HTML()
        pictures = _gallery("From the first to the second caption")

    @_refusing
    def interpolate(
        checkpoint: str, start: Any, end: Any, steps: Any, seed: Any, truncation: Any
    ) -> tuple[Any, ...]:
        model = served.model(checkpoint)
        result = painting.interpolate(model, start, end, steps, seed, truncation)
        return (
            animation_html(result.images),
            result.images,
            notes_html(_notes(served, result, model)),
        )

    inputs, outputs = (
        [checkpoint, start, end, steps, seed, truncation],
        [animation, pictures, notes],
    )
    button.click(interpolate, inputs, outputs, api_name="interpolate", **_MODEL)
    changed = new_seed.click(_random_seed, None, seed, queue=False, **_PRIVATE)
    changed.then(interpolate, inputs, outputs, **_MODEL, **_PRIVATE)


def _add_run_tab(
    served: ServedModel, checkpoint: gr.Dropdown, tab: gr.Tab, page: gr.Blocks
) -> None:
    workdir = served.workdir
    refresh = gr.Button("Refresh")
    run = gr.HTML("<p>Reading the run ...</p>", elem_classes="run")
    position = gr.Slider(1, 2, 1, step=1, label="Sample grid over time")
    grid = gr.Image(
        label="Sample grid", format="png", interactive=False, buttons=["download", "fullscreen"]
    )

    @_refusing
    def show_run(chosen: float, count: float) -> tuple[Any, ...]:
        """The slider moves along only if it is at the end, where nobody looks at an older grid."""
        now = max(1, len(workdir.sample_grid_steps()))
        index = now if chosen == count else int(chosen)
        slider = gr.Slider(maximum=max(now, 2), value=index, visible=now > 1)
        return run_view.run_html(workdir), slider, show_grid(index), now

    @_refusing
    def show_grid(index: float) -> Any:
        image, title = run_view.sample_grid(workdir, int(index) - 1)
        return gr.Image(image, label=f"Sample grid: {title}")

    @_refusing
    def newer_checkpoints() -> Any:
        return gr.Dropdown(served.choices())

    count = gr.State(1)
    timer = gr.Timer(_REFRESH_SECONDS)
    quiet = {"show_progress": "hidden"} | _PRIVATE
    changes = [tab.select, refresh.click, timer.tick]
    gr.on(changes, show_run, [position, count], [run, position, grid, count], **_RUN, **quiet)
    position.release(show_grid, position, grid, **_RUN, **quiet)
    gr.on([page.load, refresh.click, timer.tick], newer_checkpoints, None, checkpoint, **quiet)


def _caption_box(label: str, examples: list[str]) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        value=examples[0] if examples else "",
        placeholder="a sentence",
        max_length=painting.MAX_CAPTION_LENGTH,
        lines=1,
        max_lines=4,
    )


def _noise_controls() -> tuple[gr.Number, gr.Slider]:
    seed = gr.Number(0, label="Seed", info="The same seed, the same pictures.", precision=0)
    truncation = gr.Slider(
        0, 1, 1, step=0.01, label="Truncation", info="Lower: more typical, less diverse."
    )
    return seed, truncation


def _gallery(label: str) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        show_label=False,
        format="png",
        columns=4,
        height="auto",
        object_fit="contain",
        interactive=False,
        elem_classes="pictures",
        buttons=["download", "download_all", "fullscreen"],
    )


def _random_seed() -> int:
    return random.randint(0, _MAX_SEED)


def _notes(served: ServedModel, result: painting.Painting, model: Any) -> list[str]:
    untrained = ["Training of the generator has not begun: this is noise."]
    return result.notes + untrained * (not served.is_trained(model))


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of events that shows an InputError as a message."""

    @functools.wraps(function)
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except InputError as error:
            raise gr.Error(escape_text(str(error)), print_exception=False) from error

    return call
