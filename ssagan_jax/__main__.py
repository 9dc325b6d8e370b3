"""The command `ssagan_jax COMMAND ARGS`, which runs the modules that hold the commands."""

import runpy
import sys

from ssagan_jax import __version__
from ssagan_jax.errors import exit_on_user_error

# Name to module and what it does.
COMMANDS = {
    "train": ("main", "train a model, or resume its run"),
    "prepare": ("prepare", "write a data set from a folder of captioned pictures"),
    "sample": ("sample", "generate images from captions"),
    "evaluate": ("evaluate", "compute the scores of checkpoints"),
    "report": ("report", "write tables and figures of runs as an HTML page"),
    "convert": ("convert", "convert weights from and to PyTorch"),
    "export": ("export", "write a model folder to give away, ONNX, StableHLO or a web page"),
    "serve": ("serve", "serve a page that paints, and shows the run"),
}


def _usage() -> str:
    lines = [f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["usage: ssagan_jax COMMAND ARGS", "", *lines, "", "ssagan_jax COMMAND --help lists ARGS."]
    )


def main() -> None:
    """Runs a command as `python -m ssagan_jax.MODULE` does, but for its name in help texts."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "--version"):
        with exit_on_user_error():
            print(__version__ if command == "--version" else _usage())
    elif command in COMMANDS:
        module, _ = COMMANDS[command]
        sys.argv = [f"ssagan_jax {command}", *arguments]
        runpy.run_module(f"ssagan_jax.{module}", run_name="__main__")
    else:
        print(f"error: {command!r}: must be one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
