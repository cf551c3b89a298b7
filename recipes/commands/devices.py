"""edgepress devices: what can be measured on, and what one of them needs first."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from compress.errors import DeviceError, EdgepressError
from recipes.toolbox.progress import busy, say
from targets.devices.adb import AdbDevice
from targets.devices.adb_list import attached
from targets.devices.naming import FORMS, device_named
from targets.devices.qemu.profiles import PROFILES
from targets.devices.qemu.setup import setup_qemu
from targets.devices.qemu.userland import installed
from targets.devices.ssh import SshDevice
from targets.onboard.engine import ENGINES, runs


def execute(arguments: argparse.Namespace) -> None:
    """List the devices, describe one, make the emulator ready, or clean a board."""
    actions = {None: _list, "show": _show, "setup": _setup, "clean": _clean}
    actions[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> None:
    del arguments
    print(f"targets are written {FORMS}\n")
    for name, what in [("local", "this machine"), *_boards(), *_emulated()]:
        print(f"{name:18} {what}")
    print("\nengines, by the files that they run:")
    for engine in ENGINES:
        print(f"{'+' + engine:18} {', '.join(runs(engine))}")


def _boards() -> Iterator[tuple[str, str]]:
    yield "ssh:user@board", "any machine that `ssh user@board` logs into without a password"
    try:
        found = attached()
    except EdgepressError as error:
        yield "adb:SERIAL", str(error)
        return
    if not found:
        yield "adb:SERIAL", "none is attached"
    for serial, state in found:
        yield f"adb:{serial}", "ready" if state == "device" else state


def _emulated() -> Iterator[tuple[str, str]]:
    try:
        installed()
        missing = ""
    except DeviceError:
        missing = "; not ready: run edgepress devices setup qemu"
    for name, profile in PROFILES.items():
        yield f"qemu:{name}", f"{profile.shown}, emulated{missing}"


def _show(arguments: argparse.Namespace) -> None:
    device = device_named(arguments.device, arguments.python)
    with busy() as now:
        now(f"asking {device.name}")
        found = device.describe()
    for name, value in found.items():
        print(f"{name:18} {'not shown' if value is None else value}")


def _setup(arguments: argparse.Namespace) -> None:
    if arguments.device != "qemu":
        raise DeviceError(
            f"devices setup {arguments.device}: only qemu is set up; boards need python3 with "
            f"numpy and onnxruntime or ai-edge-litert"
        )
    setup_qemu(say)


def _clean(arguments: argparse.Namespace) -> None:
    device = device_named(arguments.device, arguments.python)
    if not isinstance(device, SshDevice | AdbDevice):
        raise DeviceError(f"devices clean {device.name}: only boards hold files of ours")
    print(f"{device.clean()} files removed from {device.name}")
