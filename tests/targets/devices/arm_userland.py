"""The emulated ARM userland for tests: the user's own, or that of `make arm` in build/."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

import recipes
from compress.errors import DeviceError
from targets.devices.qemu.device import QemuDevice
from targets.devices.qemu.userland import default_folder, installed
from targets.runner_file import runner_file

GUEST = Path(__file__).with_name("arm_guest.py")
# Files and what an ARM answers to them; tests/golden/make_arm.py says how they came about.
FOLDER = Path(recipes.__file__).parents[1] / "tests" / "golden" / "arm"
ANSWERS = FOLDER / "answers.npz"
_MADE = Path(recipes.__file__).parents[1] / "build" / "cache" / "edgepress"
# Emulated, on a machine that may be busy with other things.
TIMEOUT_S = 280


@functools.cache
def _folder() -> Path | None:
    for folder in (default_folder(), _MADE / default_folder().name):
        try:
            return installed(folder).folder
        except DeviceError:
            continue
    return None


def emulated(cpu: str) -> QemuDevice:
    """The device; the test is skipped where there is no userland."""
    folder = _folder()
    if folder is None:
        pytest.skip("no emulated ARM userland; run: edgepress devices setup qemu, or make arm")
    return QemuDevice(cpu, folder)


def guest(device: QemuDevice, asked: dict[str, Any]) -> dict[str, Any]:
    """What arm_guest.py answers there."""
    script = [device.push(GUEST), device.push(runner_file()), json.dumps(asked)]
    done = device.run([device.python, *script], TIMEOUT_S)
    assert done.status == 0, (done.status, done.stdout[-500:], done.stderr[-1500:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
