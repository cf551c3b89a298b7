"""A device that answers as the runner would, without running anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compress.errors import DeviceError
from targets.device import Completed, Provenance


@dataclass
class ScriptedDevice:
    """Answers as the runner would, without running anything; remembers the order."""

    answer: Mapping[str, object]
    name: str = "scripted"
    provenance: Provenance = "emulated"
    python: str = "python3"
    seen: list[str] = field(default_factory=list[str])
    broken_files: tuple[str, ...] = ()
    """These give an error as their answer."""
    lives: int = 1_000_000
    """Processes before it is gone: then every command and every question fails."""

    def describe(self) -> Mapping[str, str | int | float | None]:
        self._check()
        return {}

    def push(self, path: Path) -> str:
        return path.name

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        assert timeout_s > 0
        self._check()
        self.lives -= 1
        path = json.loads(argv[2])["path"]
        self.seen.append(path)
        if path in self.broken_files:
            return Completed(1, json.dumps({"error": "no such operator", "end": "edgepress"}), "")
        return Completed(0, "noise\n" + json.dumps(self.answer) + "\n", "")

    def _check(self) -> None:
        if not self.lives:
            raise DeviceError(f"{self.name} does not answer; plug it in again")


ANSWER: dict[str, object] = {
    "runtime": "r",
    "version": "1",
    "provider": "p",
    "load_ns": 2_000_000,
    "first_ns": 10,
    "warmup": 10,
    "settled": True,
    "times_ns": [1_000_000, 3_000_000],
    "peak_rss_bytes": None,
    "rss_base_bytes": None,
    "rss_load_bytes": 41 << 20,
    "peak_rss_load_bytes": None,
    "environment": {"load_average": 0.1},
    "clocks": [{"clock_mhz": 2000.0, "temperature_c": None, "held_down": None}] * 2,
    "untimed": None,
    "throttled": None,
    "end": "edgepress",
}
