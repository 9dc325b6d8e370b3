"""Starts `reference/training.py` and asks it: PyTorch and JAX share no process."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class ReferenceError(Exception):
    """The reference's process ended; the text is the last line that it wrote."""


class ReferenceProcess:
    """The reference at one size, until it is closed."""

    def __init__(self, reference: Path, channels: int, batch: int, cuda: bool, tf32: bool) -> None:
        command = [sys.executable, Path(__file__).parent / "reference" / "training.py"]
        command += [f"--reference={reference}", f"--channels={channels}", f"--batch_size={batch}"]
        command += ["--cuda"] * cuda + ["--tf32"] * tf32
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, command: str) -> Any:
        """The answer to a command; raises ReferenceError."""
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            raise ReferenceError(["", *self._errors.read().strip().splitlines()][-1])
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
