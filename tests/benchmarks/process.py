"""What a benchmark asks of its own process."""

from __future__ import annotations

from pathlib import Path


def memory(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process, in bytes. Linux only.

    Not getrusage, whose peak a process takes over from the one that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
