"""Targets by name: what is written is what is measured on, and errors name what there is."""

from __future__ import annotations

import pytest

from compress.errors import DeviceError
from targets.devices.local import LocalDevice
from targets.devices.naming import target_named


def test_local_with_and_without_an_engine() -> None:
    assert isinstance(target_named("local").device, LocalDevice)
    assert target_named("local").engine == "cpu"
    plain = target_named("local+plain", 4, (0, 1))
    assert (plain.engine, plain.threads, plain.cpus) == ("plain", 4, (0, 1))
    assert plain.name == "local+plain"


@pytest.mark.parametrize("name", ["", "here", "local:x", "ssh", "ssh:", "usb:1", "+webgpu", "qemu"])
def test_a_name_that_is_none_gets_the_forms(name: str) -> None:
    with pytest.raises(DeviceError, match=r"is none; targets are written local, ssh:") as caught:
        target_named(name)
    assert repr(name.removesuffix("+webgpu")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_that_is_none_gets_their_names() -> None:
    with pytest.raises(DeviceError, match=r"'local\+npu': no engine 'npu'; there are: cpu, plain"):
        target_named("local+npu")


@pytest.mark.parametrize(
    ("name", "kind", "provenance"),
    [
        ("ssh:pi@board:2222", "SshDevice", "measured"),
        ("ssh:a+b@board", "SshDevice", "measured"),
        ("adb:0123456789", "AdbDevice", "measured"),
        ("adb:emulator-5554", "AdbDevice", "emulated"),
        ("qemu:cortex-a76", "QemuDevice", "emulated"),
    ],
)
def test_each_kind_of_device(name: str, kind: str, provenance: str) -> None:
    """Nothing is reached: none of these is there."""
    assert target_named(name).device.name == name
    device = target_named(f"{name}+plain", python="/opt/python").device
    assert type(device).__name__ == kind
    assert device.name == name
    assert device.provenance == provenance
    if kind != "QemuDevice":
        assert device.python == "/opt/python"


@pytest.mark.parametrize("name", ["ssh:a b", "adb:;rm", "qemu:cortex-m0"])
def test_a_device_that_cannot_be_is_one_line(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        target_named(name)
    assert name.partition(":")[2] in str(caught.value)
    assert "\n" not in str(caught.value)
