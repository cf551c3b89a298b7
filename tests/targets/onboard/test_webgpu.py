"""WebGPU on a program for a GPU, by both runtimes: what runs there, and how near it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.encoding import Encoded, Encoding
from compress.errors import DeviceError, MissingExtraError
from targets.agreement import Agreement, outputs_against
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.formats.onnx_pack import pack
from targets.measurement import Plan, Target
from tests.reports import write_onnx, write_tflite
from tests.vulkan import needs_plugin, software_gpu, with_environment

NETS = Path(__file__).resolve().parents[2] / "golden" / "arm"
PICTURES = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32)
ONCE = Plan(runs=5, rounds=1, warmup_s=0.05, max_s=0.2)


@pytest.fixture
def gpu(tmp_path: Path) -> Target:
    return Target(software_gpu(tmp_path / "gpu"), engine="webgpu", software_gpu=True)


@pytest.fixture
def plugin(gpu: Target) -> Target:
    needs_plugin()
    return gpu


def packed(path: Path) -> Path:
    """The residual net with at most sixteen values in a weight, half of them zero, packed."""
    model = onnx.load(NETS / "residual-fp32.onnx")
    encodings: dict[str, Encoding] = {}
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim > 1:
            book = np.float32([0, *range(-7, 0), *range(1, 9)]) * np.abs(weight).max() / 8
            codes = np.abs(weight[..., None] - book).argmin(-1).astype(np.uint8)
            codes[np.abs(weight) < np.median(np.abs(weight))] = 0
            encodings[tensor.name] = Encoded(codes, book, np.ones(1, np.float32))
            tensor.CopyFrom(numpy_helper.from_array(book[codes], tensor.name))
    pack(model, encodings)
    onnx.save(model, path)
    assert path.stat().st_size < (NETS / "residual-fp32.onnx").stat().st_size / 3
    return path


def whole(found: Agreement) -> None:
    assert found.adapter is not None
    assert "SwiftShader" in found.adapter
    assert found.pictures == len(PICTURES)
    assert found.cpu_nodes == {}
    assert found.top1 == 1.0


def test_float_and_packed_onnx_run_wholly_on_it(plugin: Target, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    dense = outputs_against(write_onnx(tmp_path / "net.onnx"), plugin, noise)
    net = outputs_against(packed(tmp_path / "packed.onnx"), plugin, PICTURES)
    whole(net)
    for found in (dense, net):
        assert found.largest < 5e-4
        assert found.range > 1
        assert found.provider == "WebGpuExecutionProvider"
        assert set(found.nodes or {}) == {"WebGpuExecutionProvider"}
        assert found.copies == {"MemcpyToHost": 0, "MemcpyFromHost": 0}


def test_int8_onnx_leaves_nodes_on_the_processor_and_says_so(plugin: Target) -> None:
    found = outputs_against(NETS / "residual-int8.onnx", plugin, PICTURES)
    assert found.top1 == 1.0
    assert found.cpu_nodes is not None
    assert found.cpu_nodes["QuantizeLinear"] > 0
    assert found.nodes is not None
    assert found.nodes["CPUExecutionProvider"] == sum(found.cpu_nodes.values())
    assert found.copies is not None
    assert min(found.copies.values()) > 0


def test_litert_runs_float_and_int8_wholly_on_it(gpu: Target) -> None:
    for engine in ("webgpu", "webgpu-fp16"):
        target = replace(gpu, engine=engine)
        found = outputs_against(NETS / "residual-fp32.tflite", target, PICTURES)
        whole(found)
        assert found.largest < 1e-4
    found = outputs_against(NETS / "residual-int8.tflite", gpu, PICTURES)
    whole(found)
    assert found.largest <= 3  # steps of 256
    assert found.range > 50


def test_a_file_that_the_gpu_refuses_is_one_line(gpu: Target) -> None:
    """A shuffle of channels by way of five dimensions, which LiteRT's accelerator has not."""
    told = r"refuses the file: of 27 operations 18 would run on the processor \(RESHAPE: "
    with pytest.raises(DeviceError, match=told) as caught:
        outputs_against(NETS / "branch-fp32.tflite", gpu, PICTURES)
    assert "\n" not in str(caught.value)


def test_software_never_gives_a_latency(plugin: Target, tmp_path: Path) -> None:
    files = [write_onnx(tmp_path / "a.onnx"), write_tflite(tmp_path / "b.tflite")]
    for found in benchmark(files, [plugin], ONCE):
        assert not found.timed
        assert found.times_ms == ((),)
        assert found.resident_ms is None
        assert (found.untimed or "").startswith("software adapter SwiftShader")
        assert found.accelerator is not None
        assert found.accelerator["cpu_nodes"] == {}


def test_software_is_used_only_where_it_is_allowed(plugin: Target, tmp_path: Path) -> None:
    files = [write_onnx(tmp_path / "a.onnx"), write_tflite(tmp_path / "b.tflite")]
    for path in files:
        with pytest.raises(DeviceError, match="a program on the processor") as caught:
            benchmark([path], [replace(plugin, software_gpu=False)], ONCE)
        assert "SwiftShader" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_driver_is_an_error_and_not_the_processor(plugin: Target, tmp_path: Path) -> None:
    """The loader is there, and no driver."""
    device = software_gpu(tmp_path / "d")
    script = Path(device.python).read_text()
    Path(device.python).write_text(script.replace("vk_swiftshader_icd.json", "no.json"))
    files = [write_onnx(tmp_path / "a.onnx"), write_tflite(tmp_path / "b.tflite")]
    for path in files:
        with pytest.raises(DeviceError, match="Vulkan shows no adapter here"):
            benchmark([path], [replace(plugin, device=device)], ONCE)


def test_inputs_that_lie_there_give_the_same_outputs(plugin: Target, tmp_path: Path) -> None:
    """The call whose input is resident, which is timed on hardware only, computes as the other."""
    path = write_onnx(tmp_path / "a.onnx")
    script = (
        "import sys, numpy as np\n"
        "from targets.onboard.engine import Wanted, find\n"
        "engine = find(sys.argv[1], Wanted('webgpu', True))\n"
        "session = engine.load(sys.argv[1], 1)\n"
        "fed = engine.feed(session, np.random.default_rng(0))\n"
        "bound = {cell.cell_contents for cell in fed.resident.__closure__} - {session.own}\n"
        "(binding,) = bound\n"
        "fed.resident(), fed.resident()\n"
        "np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), fed.call()[0])\n"
        "print(binding.get_outputs()[0].device_name(), 'equal')\n"
    )
    done = plugin.device.run([plugin.device.python, "-c", script, str(path)], 60)
    assert done.stdout.strip().endswith("cpu equal"), done.stderr[-2000:]


def test_a_missing_plugin_is_named_with_the_pip_command(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_ep_webgpu").mkdir()
    init = tmp_path / "onnxruntime_ep_webgpu" / "__init__.py"
    init.write_text("raise ImportError('no such wheel')")
    device = with_environment(tmp_path / "d", PYTHONPATH=str(tmp_path))
    with pytest.raises(MissingExtraError) as caught:
        benchmark([write_onnx(tmp_path / "a.onnx")], [Target(device, engine="webgpu")], ONCE)
    assert str(caught.value).endswith("run: pip install 'edgepress[webgpu]'")


def test_onnx_has_no_engine_for_half_floats(tmp_path: Path) -> None:
    """The plugin computes in the file's own types; an option that it ignored would be a lie."""
    path = write_onnx(tmp_path / "a.onnx")
    with pytest.raises(DeviceError, match=r"no engine 'webgpu-fp16' runs \.onnx files"):
        benchmark([path], [Target(LocalDevice(), engine="webgpu-fp16")], ONCE)
