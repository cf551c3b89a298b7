"""Targets by name, as a user writes them: `local`, `local+webgpu`, `ssh:user@board`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compress.errors import DeviceError
from targets.device import Device
from targets.measurement import Target
from targets.onboard.engine import ENGINES

FORMS = "local, ssh:user@board, adb:SERIAL, qemu:CPU, each with +ENGINE where wanted"


def target_named(
    text: str, threads: int = 1, cpus: tuple[int, ...] = (), python: str | None = None
) -> Target:
    """The target `text`, DEVICE or DEVICE+ENGINE. DeviceError where it names none that there is."""
    named, plus, engine = text.rpartition("+")
    if not plus or "@" in engine:  # ssh:user+name@board
        named, engine = text, ""
    device = device_named(named, python)
    if engine not in ("", *ENGINES):
        raise DeviceError(f"target {text!r}: no engine {engine!r}; there are: {', '.join(ENGINES)}")
    return Target(device, threads, engine or "cpu", cpus)


def device_named(text: str, python: str | None = None) -> Device:
    """The device of a target's name, `local` or KIND:WHICH; nothing is reached yet.

    python: the interpreter on a board, where it is not its python3. DeviceError where the kind or
    the name is not known.
    """
    kind, _, which = text.partition(":")
    find = _KINDS.get(kind)
    if find is None or bool(which) == (kind == "local"):
        raise DeviceError(f"target {text!r} is none; targets are written {FORMS}")
    return find(which, python)


def _local(which: str, python: str | None) -> Device:
    from targets.devices.local import LocalDevice

    del which, python
    return LocalDevice()


def _ssh(which: str, python: str | None) -> Device:
    from targets.devices.ssh import SshDevice

    return SshDevice(which) if python is None else SshDevice(which, python)


def _adb(which: str, python: str | None) -> Device:
    from targets.devices.adb import AdbDevice

    return AdbDevice(which) if python is None else AdbDevice(which, python)


def _qemu(which: str, python: str | None) -> Device:
    from targets.devices.qemu.device import QemuDevice

    del python
    return QemuDevice(which)


_KINDS: Mapping[str, Callable[[str, str | None], Device]] = {
    "local": _local,
    "ssh": _ssh,
    "adb": _adb,
    "qemu": _qemu,
}
