"""Stands in for onnxruntime where there is no GPU: its names, and what it does when a GPU fails.

Put into a folder of PYTHONPATH as `onnxruntime`. $FAKE: "whole", every node on the first provider;
"partial", a QuantizeLinear left on the processor; "fallback", a session silently on the processor
(as the real one is where CUDA's libraries are missing); "idle", the provider there and every node
on the processor; "no libraries", those of TensorRT are missing. A session negates its input.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from numpy.typing import NDArray

__version__ = "9.9"
_CPU = "CPUExecutionProvider"
_HOW = os.environ["FAKE"]
_THERE = os.environ.get("FAKE_PROVIDERS", f"CUDAExecutionProvider,{_CPU}").split(",")


def set_default_logger_severity(level: int) -> None:
    del level


def get_available_providers() -> list[str]:
    return _THERE


class SessionOptions:
    enable_profiling = False
    profile_file_prefix = ""

    def __init__(self) -> None:
        self.devices: list[Any] = []

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        assert (len(devices), options) == (1, {})
        self.devices = devices

    def add_session_config_entry(self, key: str, value: str) -> None:
        assert (key.startswith("session."), value) == (True, "0")


class OrtHardwareDeviceType(Enum):
    CPU = 0
    GPU = 1


class OrtDeviceMemoryType(Enum):
    DEFAULT = 0


def register_execution_provider_library(name: str, path: str) -> None:
    assert (bool(name), path) == (True, "the plugin")


def get_ep_devices() -> list[Any]:
    """One of the plugin: on $FAKE_HARDWARE, GPU or CPU, with $FAKE_ADAPTER's name; or none."""
    kind = os.environ.get("FAKE_HARDWARE", "GPU")
    if kind == "none":
        return []
    name = os.environ.get("FAKE_ADAPTER", "Some Card")
    hardware = SimpleNamespace(
        type=OrtHardwareDeviceType[kind], vendor="Maker", metadata={"Description": name}
    )
    device = SimpleNamespace(
        ep_name="WebGpuExecutionProvider",
        ep_metadata={"version": "0.1"},
        device=hardware,
        memory_info=lambda _: SimpleNamespace(device_vendor_id=77),
    )
    return [device]


class OrtValue:
    """Remembers where it lies."""

    def __init__(self, values: NDArray[Any], kind: str) -> None:
        self.values, self.kind = values, kind

    @staticmethod
    def ortvalue_from_numpy(values: NDArray[Any], kind: str, number: int, vendor: int) -> OrtValue:
        assert (kind, number, vendor) in (("cuda", 0, -1), ("gpu", 0, 77))
        return OrtValue(values, kind)


class _Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, OrtValue] = {}
        self.outputs: dict[str, str] = {}
        self.waited = 0

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        self.inputs[name] = value

    def bind_output(self, name: str, kind: str) -> None:
        self.outputs[name] = kind

    def synchronize_outputs(self) -> None:
        self.waited += 1


def _name(provider: str | tuple[str, dict[str, str]]) -> str:
    """A provider's name; CUDA's options must ask for whole floats."""
    name, settings = (provider, {}) if isinstance(provider, str) else provider
    assert settings == ({"use_tf32": "0"} if name.startswith("CUDA") else {}), provider
    return name


class InferenceSession:
    def __init__(
        self,
        path: str,
        options: SessionOptions,
        providers: list[str] | list[tuple[str, dict[str, str]]] | None = None,
        enable_fallback: int = 1,
    ) -> None:
        assert Path(path).is_file()
        if _HOW == "no libraries":
            raise RuntimeError("error: Please install TensorRT libraries as the page says.\nMore")
        wanted = [_name(p) for p in providers or [device.ep_name for device in options.devices]]
        if wanted != [_CPU]:
            assert enable_fallback == 0, "the real one would try again without the GPU"
        self._options = options
        self._providers = list(dict.fromkeys([*([] if _HOW == "fallback" else wanted), _CPU]))

    def get_providers(self) -> list[str]:
        return self._providers

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["N", 4])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y")]

    def run(self, names: None, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        assert names is None
        return [-feed["x"]]

    def io_binding(self) -> _Binding:
        return _Binding()

    def run_with_iobinding(self, binding: _Binding) -> None:
        places = {value.kind for value in binding.inputs.values()}, set(binding.outputs.values())
        assert places in (({"cuda"}, {"cuda"}), ({"gpu"}, {"cpu"}))

    def end_profiling(self) -> str:
        assert self._options.enable_profiling
        first = _CPU if _HOW == "idle" else self._providers[0]
        ran = [("Conv", first), ("Relu", first)]
        if _HOW == "partial":
            ran += [("QuantizeLinear", _CPU), ("MemcpyToHost", first), ("MemcpyFromHost", first)]
        events = [
            {
                "cat": "Node",
                "name": f"{kind}_{i}_kernel_time",
                "args": {"op_name": kind, "provider": provider, "node_index": str(i)},
            }
            for i, (kind, provider) in enumerate(ran)
        ]
        path = Path(self._options.profile_file_prefix + ".json")
        path.write_text(json.dumps([{"cat": "Session", "name": "run", "args": {}}, *events * 2]))
        return str(path)
