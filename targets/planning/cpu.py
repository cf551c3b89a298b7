"""Which instructions a processor has, as far as they decide which kernels an engine takes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Family = Literal["x86", "arm", "other"]
# The kernel's names of flags, and ours: "vnni" and "dotprod" multiply int8 fast, "i8mm" faster.
_FLAGS: Mapping[str, str] = {
    "avx": "avx",
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx_vnni": "vnni",
    "avx512_vnni": "vnni",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
_FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("x86_64", "AMD64", "i686", "i386"), "x86"),
    **dict.fromkeys(("aarch64", "arm64", "armv7l", "armv8l"), "arm"),
}


@dataclass(frozen=True)
class Cpu:
    """`features`: of avx, avx2, avx512, vnni, dotprod, i8mm. known: the system told its flags."""

    family: Family
    features: frozenset[str] = frozenset()
    known: bool = True

    def has(self, feature: str) -> bool:
        return feature in self.features

    def words(self) -> str:
        """'x86 with avx, avx2, vnni'."""
        if not self.known:
            return f"{self.family}, its instructions not told"
        return (
            f"{self.family} with {', '.join(sorted(self.features)) or 'none of the fast kernels'}"
        )


def cpu_of(machine: str, cpuinfo: str) -> Cpu:
    """By `platform.machine()` and the text of Linux' /proc/cpuinfo, '' where there is none.

    Of several kinds of cores only what all have counts.
    """
    family = _FAMILIES.get(machine, "other")
    cores: list[set[str]] = []
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            cores.append({_FLAGS[flag] for flag in value.split() if flag in _FLAGS})
    common = set.intersection(*cores) if cores else set[str]()
    return Cpu(family, frozenset(common), bool(cores))


def local_cpu() -> Cpu:
    """This machine's."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return cpu_of(platform.machine(), text)
