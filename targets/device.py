"""Device: where a runtime runs. It moves bytes and runs commands; it knows nothing of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Provenance = Literal["measured", "emulated", "modelled"]
"""Measured on the hardware named, emulated by a program, or computed by a model of it."""


@dataclass(frozen=True)
class Completed:
    """A command that ended: exit status (negative: killed by that signal) and what it wrote."""

    status: int
    stdout: str
    stderr: str


class Device(Protocol):
    """A machine that measures. `python` is the interpreter's command there."""

    @property
    def name(self) -> str: ...
    @property
    def provenance(self) -> Provenance: ...
    @property
    def python(self) -> str: ...

    def describe(self) -> Mapping[str, str | int | float | None]:
        """The hardware and its system: cpu, machine, cores, governor, ...; None: not shown."""
        ...

    def push(self, path: Path) -> str:
        """Bring a file onto the device; its path there."""
        ...

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run a command to its end. DeviceError if it cannot start or overruns `timeout_s`."""
        ...
