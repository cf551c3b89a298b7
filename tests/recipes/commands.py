"""edgepress as its user starts it: a process, its exit code and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = Path(__file__).with_name("digits_recipe.py")


class Running(Protocol):
    """What a Popen has."""

    @property
    def returncode(self) -> int: ...

    def communicate(self, *, timeout: float) -> tuple[str, str]: ...


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    """Start `edgepress ARGUMENTS` with more environment variables."""
    return subprocess.Popen(
        [sys.executable, "-m", "recipes.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: Running) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) once it has ended."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def edgepress(*arguments: object, **variables: str) -> tuple[int, str, str]:
    """Run to the end."""
    return finish(start(*arguments, **variables))
