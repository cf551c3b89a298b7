"""The adapters that Vulkan shows, and which of them are programs: asked of its loader.

WebGPU picks an adapter by itself and neither runtime lets one choose, so on Linux programs are
hidden from it where there is hardware: a time must be known to be the hardware's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

_LOADERS = ("libvulkan.so.1", "libvulkan.so")  # the second is Android's
# Vulkan 1.3: VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, VK_PHYSICAL_DEVICE_TYPE_CPU.
_CREATE_INFO, _CPU = 1, 4
# VkPhysicalDeviceProperties: four numbers of four bytes, deviceType, then char deviceName[256].
# The whole is 824 bytes; a later one may be longer.
_TYPE, _NAME, _ROOM = slice(16, 20), slice(20, 276), 4096
# The loader's own variable (1.3.234 and later): drivers whose manifests have such names are left
# out. Mesa's lavapipe and Google's SwiftShader.
_HIDDEN, _PROGRAMS = "VK_LOADER_DRIVERS_DISABLE", "*lvp*,*swiftshader*"


class Adapter(NamedTuple):
    """As Vulkan names it. software: a program on the processor."""

    name: str
    software: bool


class NoAdapterError(RuntimeError):
    """There is no adapter that may compute."""


def visible(software_allowed: bool) -> Adapter | None:
    """What WebGPU will compute on, once programs are hidden where there is hardware.

    None where WebGPU needs no Vulkan: on systems other than Linux. Raises NoAdapterError where all
    that there is is a program, and that is not allowed, or nothing.
    """
    found = _adapters()
    if found is None and not sys.platform.startswith(("linux", "android")):
        return None
    if not found:
        what = "shows no adapter" if found is not None else "is missing (libvulkan.so.1)"
        raise NoAdapterError(f"Vulkan {what} here; install the GPU's driver for it")
    if any(not adapter.software for adapter in found):
        os.environ[_HIDDEN] = ",".join(filter(None, (os.environ.get(_HIDDEN), _PROGRAMS)))
        return _one_of(_adapters() or found)
    if not software_allowed:
        raise NoAdapterError(
            f"the only adapter here is {found[0].name}, a program on the processor; it gives "
            f"outputs and no latency, and is used only where software adapters are allowed"
        )
    return _one_of(found)


def _one_of(found: Sequence[Adapter]) -> Adapter:
    """Software if one that is left may be: an old loader hides none."""
    names = " or ".join(adapter.name for adapter in found)
    return Adapter(names, any(adapter.software for adapter in found))


class _CreateInfo(ctypes.Structure):
    """VkInstanceCreateInfo; all but its type may be zero."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint),
        ("application", ctypes.c_void_p),
        ("layers", ctypes.c_uint),
        ("layer_names", ctypes.c_void_p),
        ("extensions", ctypes.c_uint),
        ("extension_names", ctypes.c_void_p),
    )


def _adapters() -> list[Adapter] | None:
    """All of them; none where no driver is installed; None where there is no loader."""
    loader = _loader()
    if loader is None:
        return None
    instance, info = ctypes.c_void_p(), _CreateInfo(_CREATE_INFO)
    if loader.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)):
        return []
    count = ctypes.c_uint()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    devices = (ctypes.c_void_p * count.value)()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    found = [_described(loader, device) for device in devices[: count.value]]
    loader.vkDestroyInstance(instance, None)
    return found


def _loader() -> ctypes.CDLL | None:
    for name in _LOADERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _described(loader: ctypes.CDLL, device: int | None) -> Adapter:
    shown = ctypes.create_string_buffer(_ROOM)
    loader.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), shown)
    name = shown.raw[_NAME].partition(b"\0")[0].decode("utf-8", "replace")
    kind = int.from_bytes(shown.raw[_TYPE], sys.byteorder)
    return Adapter(name, kind == _CPU)
