"""qemu:CPU, an emulated ARM machine: right results and exact instruction counts, no latency."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.errors import DeviceError
from targets.device import Completed, Provenance
from targets.devices.process import run_here
from targets.devices.qemu.cpuinfo import PROCESSORS
from targets.devices.qemu.profiles import profile_named
from targets.devices.qemu.userland import Userland, installed, read_manifest


@dataclass(frozen=True)
class QemuDevice:
    """`cpu` of targets.devices.qemu.profiles, emulated on this machine by QEMU.

    folder: the userland, by default the one that `edgepress devices setup qemu` makes. DeviceError
    for a CPU that there is not, and, once it is used, where the userland is missing.
    """

    cpu: str
    folder: Path | None = None
    provenance: Provenance = "emulated"

    def __post_init__(self) -> None:
        profile_named(self.cpu)

    @property
    def name(self) -> str:
        return f"qemu:{self.cpu}"

    @property
    def python(self) -> str:
        return str(self._userland().interpreter)

    def describe(self) -> Mapping[str, str | int | float | None]:
        """The CPU that is emulated; clock, governor and memory are this machine's, so not told."""
        userland = self._userland()
        held = read_manifest(userland.folder)
        assert held is not None
        return {
            "cpu": profile_named(self.cpu).shown,
            "machine": "aarch64",
            "cores": PROCESSORS,
            "governor": None,
            "memory_bytes": None,
            "system": "Linux, emulated",
            "python": userland.python,
            "emulator": f"qemu-user {held['qemu']}",
        }

    def push(self, path: Path) -> str:
        """Files are seen there as they are here, unless the userland has one of that name."""
        if not path.is_file():
            raise DeviceError(f"{path} is not on this machine; give an existing file")
        whole = path.resolve()
        if (self._userland().root(self.cpu) / whole.relative_to("/")).exists():
            raise DeviceError(f"{whole} is another file in the userland; copy it elsewhere")
        return str(whole)

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run a program of aarch64; marked pieces are counted (see targets.onboard.counting)."""
        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            counts = Path(folder) / "counts.jsonl"
            command = self._userland().command(self.cpu, argv, counts)
            advice = "emulation is slow: allow more time"
            return run_here(command, timeout_s, Path(argv[0]).name, advice, f" on {self.name}")

    def _userland(self) -> Userland:
        return installed(self.folder)
