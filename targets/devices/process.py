"""A process of this machine, run to its end under a deadline with its output kept in files."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from compress.errors import DeviceError
from targets.device import Completed

_MOST_OUTPUT = 64 << 20


def run_to_end(
    argv: Sequence[str],
    timeout_s: float,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    *,
    leave_children: bool = False,
) -> Completed:
    """Run `argv`; of each stream the last 64 MiB. When it ends, what it started is killed with it.

    stdin: a file, or subprocess.PIPE for one that stays open and empty until the end.
    `leave_children` spares what a program that ended by itself left behind (a shared connection,
    a server). Raises subprocess.TimeoutExpired, with all of it killed, and OSError where it cannot
    start.
    """
    # Files, not pipes: a grandchild that keeps a pipe open would keep us waiting for it.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(argv), stdin=stdin, stdout=out, stderr=err, start_new_session=True
        )
        try:
            status = process.wait(timeout_s)
        finally:
            if not leave_children or process.returncode is None:
                _kill_group(process)
            if process.stdin is not None:
                process.stdin.close()
        return Completed(status, _read(out), _read(err))


def run_here(
    argv: Sequence[str], timeout_s: float, called: str, advice: str, where: str = ""
) -> Completed:
    """`run_to_end`, but DeviceError where it cannot start or overruns; the rest is its words."""
    try:
        return run_to_end(argv, timeout_s)
    except OSError as error:
        raise DeviceError(f"cannot start {argv[0]!r}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"{called} ran longer than {timeout_s:g} s{where} and was stopped; {advice}"
        ) from None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children; also on Ctrl-C, so that nothing outlives us."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: IO[bytes]) -> str:
    """The last 64 MiB that were written."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_OUTPUT))
    return file.read().decode("utf-8", "replace")
