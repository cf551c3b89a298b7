"""Targets by name, as a user writes them: `local`, `local+webgpu`, `ssh:user@board`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compress.errors import DeviceError
from targets.device import Device
from targets.measurement import Target
from targets.onboard.engine import ENGINES

FORMS = "local, ssh:user@board, adb:SERIAL, qemu:CPU, each with +ENGINE where wanted"


def target_named(text: str, threads: int = 1, cpus: tuple[int, ...] = ()) -> Target:
    """The target `text`, DEVICE or DEVICE+ENGINE. DeviceError where it names none that there is."""
    named, plus, engine = text.partition("+")
    device = device_named(named)
    if plus and engine not in ENGINES:
        raise DeviceError(f"target {text!r}: no engine {engine!r}; there are: {', '.join(ENGINES)}")
    return Target(device, threads, engine or "cpu", cpus)


def device_named(text: str) -> Device:
    """The device of a target's name, `local` or KIND:WHICH; nothing is reached yet.

    DeviceError where the kind or the name is not known.
    """
    kind, _, which = text.partition(":")
    find = _KINDS.get(kind)
    if find is None or bool(which) == (kind == "local"):
        raise DeviceError(f"target {text!r} is none; targets are written {FORMS}")
    return find(which)


def _local(which: str) -> Device:
    from targets.devices.local import LocalDevice

    del which
    return LocalDevice()


_KINDS: Mapping[str, Callable[[str], Device]] = {"local": _local}
