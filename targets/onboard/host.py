"""The machine as it shows itself: processor, memory, clocks, temperature. Linux shows most."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

Described = dict[str, str | int | float | None]
# A clock that stands this much lower at the end of the timed calls than at their beginning fell.
_FELL = 0.95
_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")
# Raspberry Pi's firmware: bits 0 to 3 say that it holds the clock down now.
_FIRMWARE = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")


def reset_peak() -> None:
    """Forget the peak of the imports, so that the peak is that of the file (Linux only)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int | None:
    """VmRSS or VmHWM (its peak) in bytes. Not ru_maxrss: Linux hands that down from the parent.

    None where there is no /proc; only the peak is known there, from ru_maxrss.
    """
    shown = _lines("/proc/self/status").get(field)
    if shown is not None:
        return int(shown.split()[0]) * 1024
    if field == "VmHWM" and sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def describe() -> Described:
    """This machine: cpu, cores, clock governor, memory, system, Python. None: not shown."""
    total = _lines("/proc/meminfo").get("MemTotal", "").split()
    return {
        "cpu": _cpu(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "cpus": ",".join(map(str, _allowed())) or None,
        "governor": _governors(),
        "memory_bytes": int(total[0]) * 1024 if total else None,
        "load_average": _load_average(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def pin(cpus: list[int]) -> None:
    """Keep this process, and the threads that it starts, on `cpus`. ValueError where it cannot."""
    try:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        if os.sched_getaffinity(0) != set(cpus):  # Linux leaves out those that are not there
            os.sched_setaffinity(0, before)
            raise ValueError
    except AttributeError:
        raise ValueError(f"processes cannot be pinned on {platform.system()}") from None
    except (OSError, ValueError, OverflowError):
        there = ",".join(map(str, _allowed()))
        raise ValueError(f"cannot pin to cpus {cpus}; there are {there}") from None


def clocks() -> Mapping[str, float | bool | None]:
    """The fastest clock of the allowed cpus, the hottest sensor, and whether it is held down.

    clock_mhz, temperature_c; held_down: True where the firmware says so. None: not shown.
    """
    shown = [_number(_CPUS / f"cpu{i}/cpufreq/scaling_cur_freq") for i in _allowed()]
    heat = [_number(zone / "temp") for zone in _zones()]
    flags = _text(_FIRMWARE)
    return {
        "clock_mhz": max((khz / 1e3 for khz in shown if khz is not None), default=None),
        "temperature_c": max((milli / 1e3 for milli in heat if milli is not None), default=None),
        "held_down": None if flags is None else bool(int(flags, 16) & 0xF),
    }


def throttled(
    before: Mapping[str, float | bool | None], after: Mapping[str, float | bool | None]
) -> bool | None:
    """Whether the clock fell between two `clocks`, both taken at work; None: not to be told."""
    if before["held_down"] or after["held_down"]:
        return True
    first, last = before["clock_mhz"], after["clock_mhz"]
    if first is None or last is None:
        return None if after["held_down"] is None else False
    return last < _FELL * first


def _allowed() -> list[int]:
    """The numbers of the cpus that this process may run on."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows, and Androids of old
        return None


def _governors() -> str | None:
    """The governors of the allowed cpus: big and little cores may have their own."""
    shown = {_text(_CPUS / f"cpu{i}/cpufreq/scaling_governor") for i in _allowed()} - {None}
    return ", ".join(sorted(filter(None, shown))) or None


def _zones() -> Iterator[Path]:
    with suppress(OSError):
        yield from _THERMAL.glob("thermal_zone*")


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def _cpu() -> str | None:
    """The processor's name; on ARM Linux, which gives numbers instead, those."""
    shown = _lines("/proc/cpuinfo")
    if "model name" in shown:
        return shown["model name"]
    if "CPU part" in shown:
        return f"ARM implementer {shown.get('CPU implementer', '?')} part {shown['CPU part']}"
    return platform.processor() or None


def _lines(path: str) -> dict[str, str]:
    """'key : value' lines of a /proc file; the last of each key."""
    pairs = (line.partition(":") for line in (_text(path) or "").splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _text(path: Path | str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):  # a sensor may refuse to be read
        return None
