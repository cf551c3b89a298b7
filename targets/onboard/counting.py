"""Instructions of each call, where an emulator counts them: marks, and its lines read back.

The emulator (see targets.devices.qemu) names in $EDGEPRESS_COUNTS the file to which it appends one
line of JSON for each piece of the program between two marks. A mark is a system call that changes
nothing anywhere: getpriority of a kind that does not exist. A count takes in what calling from
Python costs, some thousand instructions.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "EDGEPRESS_COUNTS"
CALLS = 5  # to count at the least; the smallest is the figure

_MARK = 0x41524D52
_BEGIN, _END = 1, 2
_LONGEST = 4096  # bytes of a line; those of today are below 400


class Counter:
    """Counts calls of one thread. `call` some times, then `counts`."""

    def __init__(self, path: Path) -> None:
        """`path`: the file that the emulator appends to; what stands there already is skipped."""
        self._path = path
        self._begun_at = path.stat().st_size if path.exists() else 0
        self._calls = 0
        # Looked up now: no part of what is counted.
        self._mark = ctypes.CDLL(None).getpriority
        self._mark.argtypes = (ctypes.c_int, ctypes.c_uint)

    @staticmethod
    def from_environment() -> Counter | None:
        """None where nothing counts: on real hardware."""
        named = os.environ.get(VARIABLE)
        return Counter(Path(named)) if named else None

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` once, counted. Not from several threads at a time."""
        self._mark(_MARK, _BEGIN)
        function()
        self._mark(_MARK, _END)
        self._calls += 1

    def counts(self) -> list[dict[str, int]]:
        """Of each call so far: "insns", all of them, and those of each class by its name.

        Raises ValueError where the file holds anything else: a count is exact or it is none.
        """
        with self._path.open("rb") as file:
            file.seek(self._begun_at)
            written = file.read(self._calls * _LONGEST + 1)
        lines = written.splitlines()
        if len(lines) != self._calls or not all(len(line) < _LONGEST for line in lines):
            raise ValueError(
                f"{self._calls} calls were marked, but {self._path} has {len(lines)} lines for "
                f"them; is {VARIABLE} set without an emulator that counts?"
            )
        return [_count(line) for line in lines]


def fewest(counts: list[dict[str, int]]) -> dict[str, int]:
    """The call with the fewest instructions: the others were interrupted by more."""
    return min(counts, key=lambda count: count["insns"])


def spread(counts: list[dict[str, int]]) -> float:
    """How far the most lie above the fewest, as a fraction of these; 0 where all are equal."""
    totals = [count["insns"] for count in counts]
    return (max(totals) - min(totals)) / min(totals)


def _count(line: bytes) -> dict[str, int]:
    count: Any = json.loads(line)
    if not isinstance(count, Mapping) or "insns" not in count:
        raise ValueError(f"{line[:80]!r} is not a count of instructions")
    for name, number in count.items():
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise ValueError(f"{line[:80]!r} is not a count of instructions: {name!r}")
    return dict(count)
