"""This machine: files stay where they are, commands run as processes under a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from compress.errors import DeviceError
from targets.device import Completed, Provenance
from targets.onboard.host import describe

_MOST_OUTPUT = 64 << 20


@dataclass(frozen=True)
class LocalDevice:
    """The machine that edgepress runs on, with `python` (this one) to run the runner."""

    python: str = field(default_factory=lambda: sys.executable)
    name: str = "local"
    provenance: Provenance = "measured"

    def describe(self) -> Mapping[str, str | int | float | None]:
        return describe()

    def push(self, path: Path) -> str:
        if not path.is_file():
            raise DeviceError(f"{path} is not on this machine; give an existing file")
        return str(path.resolve())

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run `argv`; when it ends or overruns, whatever it started is killed with it."""
        # Files, not pipes: a grandchild that keeps a pipe open would keep us waiting for it.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            except OSError as error:
                raise DeviceError(f"cannot start {argv[0]!r}: {error.strerror}") from error
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise DeviceError(
                    f"{Path(argv[0]).name} ran longer than {timeout_s:g} s and was stopped; "
                    f"ask for fewer runs or allow more time"
                ) from None
            finally:
                _kill_group(process)
            return Completed(status, _read(out), _read(err))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children; also on Ctrl-C, so that nothing outlives us."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: IO[bytes]) -> str:
    """The last 64 MiB that were written."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_OUTPUT))
    return file.read().decode("utf-8", "replace")
