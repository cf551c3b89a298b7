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


@pytest.mark.parametrize("name", ["", "here", "local:x", "ssh", "ssh:", "usb:1", "+webgpu"])
def test_a_name_that_is_none_gets_the_forms(name: str) -> None:
    with pytest.raises(DeviceError, match=r"is none; targets are written local, ssh:") as caught:
        target_named(name)
    assert repr(name.partition("+")[0]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_that_is_none_gets_their_names() -> None:
    with pytest.raises(DeviceError, match=r"'local\+npu': no engine 'npu'; there are: cpu, plain"):
        target_named("local+npu")
