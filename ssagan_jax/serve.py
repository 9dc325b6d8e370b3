"""Serves a page that paints with a trained model, and shows its run.

python -m ssagan_jax.serve --workdir=runs/my_cars

The page needs the extra [web], and no network. Only this machine can open it unless --host or
--share says otherwise.
"""

import argparse
import contextlib
import signal
import socket
import threading
from types import FrameType

from absl import logging

from ssagan_jax.checkpointing.best_checkpoint import parse_checkpoint
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.compilation_cache import enable_compilation_cache
from ssagan_jax.data.tokenizer import TokenizerError
from ssagan_jax.errors import InputError, exit_immediately, exit_on_user_error
from ssagan_jax.serving.run_view import run_html
from ssagan_jax.serving.served_model import ServedModel

_LOCAL = ("127.0.0.1", "localhost", "::1")
_ABOUT_SHARE = (
    "--share: everyone who knows the public link can open the page for up to a week; captions and "
    "pictures pass through Gradio's server, and through a program that Gradio downloads from there"
)


def serve(flags: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Raises:
      InputError: Gradio is missing, the address cannot be used, or there is no such model.
    """
    check_gradio_installed()
    check_address(flags.host, flags.port)
    stop = interrupt_on_signals()
    if flags.share:
        print(_ABOUT_SHARE, flush=True)
    served = ServedModel(flags.workdir, flags.checkpoint)
    model = served.model(served.initial)
    print(f"step {model.step} of {flags.workdir}; compiling", flush=True)
    with contextlib.suppress(TokenizerError):  # The vocabulary may lack the word.
        model.paint("a", masks=True)  # Nobody waits for it later.
    if stop.is_set():
        raise KeyboardInterrupt
    from ssagan_jax.serving.page import launched

    address = flags.host, flags.port, flags.share
    with launched(served, *address) as page, contextlib.suppress(KeyboardInterrupt):
        print("\n".join(describe_access(flags.host, page.local_url, page.share_url)), flush=True)
        if served.workdir is not None:  # Its imports take seconds.
            threading.Thread(target=run_html, args=[served.workdir], daemon=True).start()
        stop.wait()
    print("stopped")


def interrupt_on_signals() -> threading.Event:
    """Makes Ctrl-C and SIGTERM raise KeyboardInterrupt and set the returned event.

    The exception alone could be lost: Python ignores it in a callback of the garbage collector,
    such as JAX's. SIGINT stays ignored if it was, as in background jobs.
    """
    stop = threading.Event()

    def receive(number: int, frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, receive)
    return stop


def check_gradio_installed() -> None:
    """Raises InputError, with the command that installs it, if Gradio is missing."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the page needs a package that is not installed ({error.name}); run "
            "pip install 'ssagan_jax[web]', in a clone of the project pip install -e '.[web]'"
        ) from error


def check_address(host: str, port: int) -> None:
    """Raises InputError if the page cannot be served there."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port={port}: must be from 1 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host={host}: is not a valid address ({error})") from error
    with socket.socket(family) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(address)
        except OSError as error:
            raise InputError(
                f"--host={host} --port={port}: cannot be used ({error.strerror}); choose another "
                "--port, or an address of this machine as --host"
            ) from error


def describe_access(host: str, url: str, share_url: str | None) -> list[str]:
    """Lines that tell where the page is, and who can open it."""
    lines = [f"painting at {url}; Ctrl-C stops it"]
    if host in _LOCAL:
        lines.append("only this machine can open it; --host=0.0.0.0 lets its network in")
    else:
        lines.append(
            f"--host={host}: everyone who can reach this machine at that address can open the "
            "page, without a password and without encryption"
        )
    if share_url:
        lines.append(f"public link: {share_url}")
    return lines


def main() -> None:
    """The command."""
    parser = command_parser("serve", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, help="work folder, model folder or name on the hub")
    add("--checkpoint", type=parse_checkpoint, help="a step or best (default: latest)")
    about = "address to listen at; 0.0.0.0: the network (default: %(default)s)"
    add("--host", default="127.0.0.1", help=about)
    add("--port", type=int, default=7860, help="port to listen at (default: %(default)s)")
    add("--share", action="store_true", help="a public link through Gradio's server")
    with exit_on_user_error():
        flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        enable_compilation_cache()
        serve(flags)
    exit_immediately(0)  # Without waiting for a request or a thread that still works.


if __name__ == "__main__":
    main()
