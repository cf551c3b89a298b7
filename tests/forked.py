"""A process that need not import torch: a fork of one that has.

Importing is most of what a small run costs. Such a process has its own memory, files, signals and
exit code, as one that `recipes.commands.start` starts, and an order of sets that is not ours; what
a new interpreter alone shows (lazy imports, the command line itself) is tested with that.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HASH_SEED = "12345"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.warm", "accelerate"])


class Forked:
    """`main(arguments)` with more environment variables, as a Popen that keeps what it says."""

    def __init__(
        self,
        main: Callable[[list[str]], int | None],
        *arguments: object,
        cwd: Path = ROOT,
        **variables: str,
    ) -> None:
        self._said = tempfile.TemporaryDirectory()
        for name in ("out", "err"):
            (Path(self._said.name) / name).touch()
        given = list(map(str, arguments))
        environment = {**os.environ, **variables}
        task = (main, given, cwd, environment, Path(self._said.name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONHASHSEED", HASH_SEED)
            forkserver.ensure_running()
        self._process = _FORKS.Process(target=_run, args=task)
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, -9 after SIGKILL; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, *, timeout: float) -> tuple[str, str]:
        """(stdout, stderr) once it has ended."""
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            raise TimeoutError(f"a forked process still ran after {timeout} s")
        folder = Path(self._said.name)
        said = (folder / "out").read_text(), (folder / "err").read_text()
        self._said.cleanup()
        return said

    @property
    def returncode(self) -> int:
        status = self.poll()
        assert status is not None
        return status


def _run(
    main: Callable[[list[str]], int | None],
    arguments: list[str],
    cwd: Path,
    variables: dict[str, str],
    said: Path,
) -> None:
    """The process itself."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, number in (("out", 1), ("err", 2)):
        opened = os.open(said / name, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    tempfile.tempdir = None  # it follows TMPDIR
    try:
        sys.exit(main(arguments))
    finally:
        atexit._run_exitfuncs()  # multiprocessing would leave them out
