"""How the help of a command names it, and the parser of all commands but the training command."""

import argparse
import os
import sys
from typing import Any


def command_name(module: str) -> str:
    """What was typed to start a command: "ssagan_jax sample" or "python -m ssagan_jax.sample"."""
    started = sys.argv[0]  # ssagan_jax.__main__ leaves "ssagan_jax sample" here.
    return started if started.startswith("ssagan_jax ") else f"python -m ssagan_jax.{module}"


def describe_command(module: str, description: str) -> str:
    """The docstring of a command's module, in which examples begin with `command_name`."""
    return description.replace(f"python -m ssagan_jax.{module}", command_name(module))


class _Parser(argparse.ArgumentParser):
    """Replaces "~/" by the home folder, which shells do not in --flag=~/folder."""

    def parse_args(self, *arguments: Any, **options: Any) -> argparse.Namespace:
        """Parses as ArgumentParser does."""
        flags = super().parse_args(*arguments, **options)
        for name, value in vars(flags).items():
            if isinstance(value, list):
                setattr(flags, name, [_expand(item) for item in value])
            else:
                setattr(flags, name, _expand(value))
        return flags


def _expand(value: Any) -> Any:
    is_path = isinstance(value, str) and (value == "~" or value.startswith("~/"))
    return os.path.expanduser(value) if is_path else value


def command_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser of the command line.

    Args:
      module: of the command, as in "sample".
      description: its docstring; line breaks are kept.
    """
    return _Parser(
        prog=command_name(module),
        description=describe_command(module, description),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
