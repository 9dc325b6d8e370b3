"""How the help of a command names it, and the parser of all commands but the training command."""

import argparse
import sys


def command_name(module: str) -> str:
    """What was typed to start a command: "ssagan_jax sample" or "python -m ssagan_jax.sample"."""
    started = sys.argv[0]  # ssagan_jax.__main__ leaves "ssagan_jax sample" here.
    return started if started.startswith("ssagan_jax ") else f"python -m ssagan_jax.{module}"


def describe_command(module: str, description: str) -> str:
    """The docstring of a command's module, in which examples begin with `command_name`."""
    return description.replace(f"python -m ssagan_jax.{module}", command_name(module))


def command_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser of the command line.

    Args:
      module: of the command, as in "sample".
      description: its docstring; line breaks are kept.
    """
    return argparse.ArgumentParser(
        prog=command_name(module),
        description=describe_command(module, description),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
