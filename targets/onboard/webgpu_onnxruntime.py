"""onnxruntime on a GPU of any maker, by its WebGPU plugin: Vulkan, Metal or Direct3D 12.

It computes in the types of the file: 16-bit floats where the file has them, so there is no engine
for them. Tried on software Vulkan and on an H100.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .engine import Engine, Fed, MissingRuntimeError, Wanted
from .onnxruntime_cpu import answer, import_onnxruntime, random_inputs, session_options, takes
from .onnxruntime_placement import Profile, placement, refuse_fallback, refuse_idle
from .onnxruntime_resident import Place, resident
from .vulkan import Adapter, NoAdapterError, visible

_PROVIDER = "WebGpuExecutionProvider"
_PLUGIN = "onnxruntime_ep_webgpu"
# The plugin offers itself where onnxruntime sees no GPU only under this one, and then whether or
# not there is an adapter. Vulkan has been asked before it is set.
_ALLOW = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"
# Microsoft's program behind Direct3D 12.
_WARP = "Basic Render"


class _Session(NamedTuple):
    """onnxruntime's own, and what tells where its nodes went."""

    own: Any
    place: Callable[[], Mapping[str, Any]]


def engine(wanted: Wanted) -> Engine:
    """The plugin's provider, for "webgpu". NoAdapterError where nothing may compute."""
    assert wanted.name == "webgpu", wanted
    ort = import_onnxruntime()
    library = _library(ort)
    shown = visible(wanted.software_gpu)
    os.environ[_ALLOW] = "1" if shown is not None or wanted.software_gpu else "0"
    ort.register_execution_provider_library("edgepress_webgpu", library)
    device = _device(ort)
    adapter = shown or _told(ort, device)

    def opened(path: str, options: Any) -> Any:
        options.add_provider_for_devices([device], {})
        session = ort.InferenceSession(path, options, enable_fallback=0)
        refuse_fallback(session, _PROVIDER, f" on {adapter.name}")
        return session

    def load(path: str, threads: int) -> _Session:
        options = session_options(ort, threads)
        if adapter.software:  # not timed, and slow to start: one session for both
            profile = Profile(options)
            session = opened(path, options)
            return _Session(session, lambda: profile.read(session))
        session = opened(path, options)
        apart = session_options(ort, threads)
        return _Session(session, lambda: placement(apart, lambda o: opened(path, o)))

    def feed(session: _Session, generator: np.random.Generator) -> Fed:
        return _fed(ort, session, generator, adapter)

    version = f"{ort.__version__}, plugin {device.ep_metadata.get('version', 'of no version')}"
    timed = "session.run: upload, inference, download"
    return Engine(
        "onnxruntime",
        version,
        timed,
        load,
        feed,
        lambda session: takes(session.own),
        lambda session, value: answer(session.own, value),
    )


def _library(ort: Any) -> str:
    """The plugin's file. MissingRuntimeError, ValueError for an onnxruntime without plugins."""
    try:
        plugin = importlib.import_module(_PLUGIN)
    except ImportError as error:
        raise MissingRuntimeError(_PLUGIN, [str(error)]) from error
    if not hasattr(ort, "register_execution_provider_library"):
        raise ValueError(f"onnxruntime {ort.__version__} takes no plugins; 1.24.4 and later do")
    return str(plugin.get_library_path())


def _device(ort: Any) -> Any:
    found = [device for device in ort.get_ep_devices() if device.ep_name == _PROVIDER]
    if not found:
        raise NoAdapterError(
            "the WebGPU plugin finds no GPU here (on Linux it needs libvulkan.so.1 and the GPU's "
            "Vulkan driver)"
        )
    return found[0]


def _told(ort: Any, device: Any) -> Adapter:
    """What onnxruntime says of it, where there is no Vulkan to ask."""
    hardware = device.device
    name = str(dict(hardware.metadata).get("Description") or hardware.vendor)
    software = hardware.type != ort.OrtHardwareDeviceType.GPU or _WARP in name
    return Adapter(name, software)


def _fed(ort: Any, session: _Session, generator: np.random.Generator, adapter: Adapter) -> Fed:
    """Nothing but a download waits for WebGPU, so the resident call, too, ends with one."""
    inputs, run = random_inputs(session.own, generator), session.own.run
    info = _device(ort).memory_info(ort.OrtDeviceMemoryType.DEFAULT)
    here = Place("gpu", info.device_vendor_id)

    def more() -> dict[str, Any]:
        placed = session.place()
        refuse_idle(placed, (_PROVIDER,))
        return {"accelerator": {"adapter": adapter.name, **placed}}

    return Fed(
        lambda: run(None, inputs),
        _PROVIDER,
        f"software adapter {adapter.name}" if adapter.software else None,
        resident(ort, session.own, inputs, here, Place("cpu")),
        more,
    )
