"""CUDA and TensorRT by onnxruntime, against a stand-in: the logic alone. On a GPU: test_nvidia."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import tests
from compress.errors import DeviceError, MissingExtraError
from targets.agreement import outputs_against
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Target
from tests.reports import write_onnx
from tests.vulkan import with_environment

ONCE = Plan(runs=5, rounds=2, warmup_s=0.05, max_s=0.2)
TENSORRT = "TensorrtExecutionProvider,CUDAExecutionProvider,CPUExecutionProvider"
SMI = "NVIDIA Stand-in, 555.1, 1980, 41"


def fake(folder: Path, **variables: str) -> LocalDevice:
    """A Python whose onnxruntime is the stand-in, and whose nvidia-smi answers."""
    package = folder / "onnxruntime"
    package.mkdir(parents=True)
    source = Path(tests.__path__[0]) / "fake_onnxruntime.py"
    shutil.copy(source, package / "__init__.py")
    smi = folder / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\necho '{SMI}'\n")
    smi.chmod(0o755)
    path = f"{smi.parent}:/usr/bin:/bin"
    return with_environment(folder / "d", PYTHONPATH=str(folder), PATH=path, **variables)


def measured(folder: Path, engine: str = "cuda", **variables: str) -> Measurement:
    target = Target(fake(folder / "fake", **variables), engine=engine)
    (found,) = benchmark([write_onnx(folder / "net.onnx")], [target], ONCE)
    return found


def test_times_with_and_without_copies_and_says_where_nodes_ran(tmp_path: Path) -> None:
    found = measured(tmp_path, FAKE="whole")
    assert found.timed
    assert found.provider == "CUDAExecutionProvider"
    assert found.engine == "cuda"
    assert found.runs == 10
    assert found.resident_ms is not None
    assert found.resident_ms > 0
    assert found.accelerator == {
        "adapter": "NVIDIA Stand-in",
        "driver": "555.1",
        "clock_mhz": "1980",
        "temperature_c": "41",
        "nodes": {"CUDAExecutionProvider": 2},
        "cpu_nodes": {},
        "copies": {"MemcpyToHost": 0, "MemcpyFromHost": 0},
    }


def test_tensorrt_stands_before_cuda(tmp_path: Path) -> None:
    found = measured(tmp_path, "tensorrt", FAKE="partial", FAKE_PROVIDERS=TENSORRT)
    assert found.provider == "TensorrtExecutionProvider"
    assert found.accelerator is not None
    assert found.accelerator["cpu_nodes"] == {"QuantizeLinear": 1}
    assert found.accelerator["copies"] == {"MemcpyToHost": 1, "MemcpyFromHost": 1}
    assert found.accelerator["nodes"]["TensorrtExecutionProvider"] == 2


def test_tensorrt_without_its_libraries_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match="needs tensorrt") as told:
        measured(tmp_path, "tensorrt", FAKE="no libraries", FAKE_PROVIDERS=TENSORRT)
    assert "its libraries are not found" in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(DeviceError, match="Please install TensorRT libraries"):
        measured(tmp_path / "cuda", FAKE="no libraries")


def test_a_silent_fallback_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider instead of CUDA"):
        measured(tmp_path, FAKE="fallback")


def test_a_provider_that_computes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"every node to the processor.*1 Conv, 1 Relu"):
        measured(tmp_path, FAKE="idle")


@pytest.mark.parametrize("engine", ["cuda", "tensorrt"])
def test_an_onnxruntime_without_the_provider_is_the_wrong_package(
    tmp_path: Path, engine: str
) -> None:
    """The real one of this environment: built for processors."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("the onnxruntime here is onnxruntime-gpu")
    target = Target(LocalDevice(), engine=engine)
    with pytest.raises(MissingExtraError) as caught:
        benchmark([write_onnx(tmp_path / "net.onnx")], [target], ONCE)
    assert "first pip uninstall onnxruntime" in str(caught.value)
    assert str(caught.value).endswith("run: pip install 'onnxruntime-gpu'")


def test_outputs_are_compared_on_the_same_device(tmp_path: Path) -> None:
    """The stand-in negates; the processor's engine finds it as onnxruntime, too."""
    target = Target(fake(tmp_path / "fake", FAKE="whole"), engine="cuda")
    inputs = np.float32([[1, -2, 3, 4], [0, 5, -6, 7]])
    found = outputs_against(
        write_onnx(tmp_path / "net.onnx"), target, inputs, replace(target, engine="cpu")
    )
    assert (found.largest, found.range, found.top1) == (0.0, 7.0, 1.0)
    assert found.adapter == "NVIDIA Stand-in"
