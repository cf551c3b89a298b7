"""What the WebGPU engines make of what the runtimes say, with stand-ins for these and no GPU."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tests
from targets.onboard import webgpu_litert, webgpu_onnxruntime
from targets.onboard.engine import Engine, Fed, MissingRuntimeError, Wanted
from targets.onboard.vulkan import Adapter, NoAdapterError
from tests.reports import write_onnx

PLAIN = Wanted("webgpu")
CARD, PROGRAM = Adapter("Some Card", False), Adapter("SwiftShader", True)
LOG = "I0000 environment.cc:532] Selected adapter: {}, arch=x, vendor=y, adapterType={}\n"
REFUSED = """ERROR: Following operations are not supported by GPU delegate:
RESHAPE: Tensor dimensions must be less than 5. t1
RESHAPE: Tensor dimensions must be less than 5. t2
DENSIFY: Operation is not supported.
9 operations will run on the GPU, and the remaining 5 operations will run on the CPU.
"""


def onnxruntime(monkeypatch: pytest.MonkeyPatch, shown: Adapter | None, **variables: str) -> Engine:
    """The engine over the stand-in for onnxruntime, where Vulkan shows `shown`."""
    for name, value in {"FAKE": "whole", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "0")  # restored with the others
    path = Path(tests.__path__[0]) / "fake_onnxruntime.py"
    found = importlib.util.spec_from_file_location("onnxruntime", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    plugin = ModuleType("onnxruntime_ep_webgpu")
    plugin.get_library_path = lambda: "the plugin"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", plugin)
    monkeypatch.setattr(webgpu_onnxruntime, "visible", lambda _: shown)
    return webgpu_onnxruntime.engine(Wanted("webgpu"))


def fed(engine: Engine, path: Path) -> Fed:
    return engine.feed(engine.load(str(path), 1), np.random.default_rng(0))


@pytest.mark.parametrize("how", ["whole", "partial"])
def test_hardware_is_timed_twice_and_its_nodes_counted_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    engine = onnxruntime(monkeypatch, CARD, FAKE=how)
    found = fed(engine, write_onnx(tmp_path / "net.onnx"))
    assert (found.provider, found.untimed) == ("WebGpuExecutionProvider", None)
    assert engine.version == "9.9, plugin 0.1"
    assert found.resident is not None
    found.resident()
    told = found.more()["accelerator"]
    assert told["adapter"] == "Some Card"
    assert told["cpu_nodes"] == ({} if how == "whole" else {"QuantizeLinear": 1})
    assert told["copies"] == dict.fromkeys(("MemcpyToHost", "MemcpyFromHost"), int(how != "whole"))


@pytest.mark.parametrize("shown", [CARD, PROGRAM], ids=["hardware", "software"])
def test_a_fallback_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: Adapter
) -> None:
    path = str(write_onnx(tmp_path / "net.onnx"))
    with pytest.raises(RuntimeError, match=f"fell back to CPU.* on {shown.name}"):
        onnxruntime(monkeypatch, shown, FAKE="fallback").load(path, 1)
    idle = fed(onnxruntime(monkeypatch, CARD, FAKE="idle"), Path(path))
    with pytest.raises(RuntimeError, match=r"every node to the processor.*\(1 Conv, 1 Relu\)"):
        idle.more()


@pytest.mark.parametrize(
    ("variables", "untimed"),
    [
        ({"FAKE_ADAPTER": "Some Card"}, None),
        ({"FAKE_HARDWARE": "CPU"}, "software adapter Some Card"),
        (
            {"FAKE_ADAPTER": "Microsoft Basic Render Driver"},
            "software adapter Microsoft Basic Render Driver",
        ),
    ],
    ids=["card", "processor", "WARP"],
)
def test_without_vulkan_onnxruntimes_word_counts(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    untimed: str | None,
) -> None:
    engine = onnxruntime(monkeypatch, None, **variables)
    assert fed(engine, write_onnx(tmp_path / "net.onnx")).untimed == untimed


def test_no_device_and_an_old_onnxruntime_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoAdapterError, match="the WebGPU plugin finds no GPU here"):
        onnxruntime(monkeypatch, None, FAKE_HARDWARE="none")
    old = SimpleNamespace(__version__="1.20", set_default_logger_severity=lambda _: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", old)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"onnxruntime 1\.20 takes no plugins"):
        webgpu_onnxruntime.engine(Wanted("webgpu"))


class FakeCompiled:
    """LiteRT's module: says `log` on stderr, and raises or opens a net of one input."""

    class HardwareAccelerator:
        GPU = 4

    def __init__(self, log: str, error: str | None = None, accelerated: bool = True) -> None:
        self._log, self._error, self._accelerated = log, error, accelerated
        self.GpuOptions = SimpleNamespace
        self.Options = SimpleNamespace
        self.CompiledModel = SimpleNamespace(from_file=self._open)
        self.asked: list[Any] = []

    def _open(self, path: str, options: Any) -> Any:
        assert path == "n.tflite"
        self.asked.append(options)
        os.write(2, self._log.encode())
        if self._error is not None:
            raise RuntimeError(self._error)
        about = {"n": {"name": "n", "shape": [1, 2], "dtype": "float32"}}
        return SimpleNamespace(
            is_fully_accelerated=lambda: self._accelerated,
            get_signature_list=lambda: {"serve": {"inputs": ["n"], "outputs": ["n"]}},
            get_input_tensor_details=lambda _: about,
            get_output_tensor_details=lambda _: about,
            get_input_buffer_requirements=lambda _: {"supported_types": [26]},
            create_input_buffers=lambda _: [SimpleNamespace(write=lambda _: None)],
            create_output_buffers=lambda _: [SimpleNamespace(read=np.ones)],
            run_by_index=lambda *_: None,
        )


def litert(
    monkeypatch: pytest.MonkeyPatch,
    module: FakeCompiled,
    shown: Adapter | None = None,
    wanted: Wanted = PLAIN,
) -> Engine:
    monkeypatch.setattr(webgpu_litert, "_import", lambda: module)
    monkeypatch.setattr(webgpu_litert, "visible", lambda _: shown)
    return webgpu_litert.engine(wanted)


@pytest.mark.parametrize("name", ["webgpu", "webgpu-fp16"])
def test_litert_is_asked_for_the_gpu_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = FakeCompiled(LOG.format("Some Card", "discrete GPU"))
    found = fed(litert(monkeypatch, module, CARD, Wanted(name)), Path("n.tflite"))
    (options,) = module.asked
    assert options.hardware_accelerators == FakeCompiled.HardwareAccelerator.GPU
    assert options.gpu_options.enforce_f32 == (name == "webgpu")
    assert found.untimed is None
    assert found.resident is not None
    assert found.more()["accelerator"]["adapter"] == "Some Card"


@pytest.mark.parametrize(
    ("log", "shown", "untimed"),
    [
        ("", None, "LiteRT does not tell which adapter computed"),
        ("", CARD, None),
        ("", PROGRAM, "software adapter SwiftShader"),
        (LOG.format("llvmpipe", "CPU / Software"), CARD, "software adapter llvmpipe"),
    ],
    ids=["unknown", "by Vulkan", "a program by Vulkan", "what it says counts more"],
)
def test_what_is_not_known_to_be_hardware_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, log: str, shown: Adapter | None, untimed: str | None
) -> None:
    engine = litert(monkeypatch, FakeCompiled(log), shown, Wanted("webgpu", software_gpu=True))
    assert fed(engine, Path("n.tflite")).untimed == untimed


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            FakeCompiled(REFUSED, "Some ops"),
            "refuses the file: of 14 operations 5 would run on the processor (RESHAPE: Tensor "
            "dimensions must be less than 5. t1; DENSIFY: Operation is not supported.)",
        ),
        (FakeCompiled("", "a.cc:1\n  b.cc:2"), "refuses the file: a.cc:1 b.cc:2"),
        (FakeCompiled("", accelerated=False), "left operations to the processor"),
        (FakeCompiled(LOG.format("llvmpipe", "CPU / Software")), "chose llvmpipe, a program"),
    ],
    ids=["operations", "otherwise", "split", "a program"],
)
def test_litert_s_refusals_are_one_line(
    monkeypatch: pytest.MonkeyPatch, module: FakeCompiled, says: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        litert(monkeypatch, module).load("n.tflite", 1)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_litert_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.compiled_model", None)  # type: ignore[arg-type]
    with pytest.raises(MissingRuntimeError, match="ai_edge_litert cannot be imported"):
        webgpu_litert.engine(Wanted("webgpu"))
