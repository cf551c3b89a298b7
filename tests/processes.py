"""Whether processes that were to end have ended."""

from __future__ import annotations

import os
import time
from pathlib import Path


def gone(process: int, within_s: float = 5.0) -> bool:
    """Whether it ended (a zombie that nobody reaped has ended)."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def noted(note: Path, within_s: float = 10.0) -> int:
    """The process id that a command of the tests writes into `note`."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        if note.is_file() and note.read_text().endswith("\n"):
            return int(note.read_text())
        time.sleep(0.02)
    raise AssertionError(f"no process id in {note}")
