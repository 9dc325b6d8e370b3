"""Runs the command prepare in a test's process."""

import sys

from ssagan_jax import prepare


def run_prepare(monkeypatch, capsys, *flags):
    """Its exit code, and what it printed without the progress bars."""
    monkeypatch.setattr(sys, "argv", ["prepare", *flags])
    code = 0
    try:
        prepare.main()
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    return code, captured.out + captured.err.rpartition("\r")[2]
