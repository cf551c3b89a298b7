"""This machine: files stay where they are, commands run as processes under a deadline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compress.errors import DeviceError
from targets.device import Completed, Provenance
from targets.devices.process import run_here
from targets.onboard.host import describe


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
        advice = "ask for fewer runs or allow more time"
        return run_here(argv, timeout_s, Path(argv[0]).name, advice)
