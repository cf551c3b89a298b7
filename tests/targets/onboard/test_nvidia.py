"""CUDA on a real GPU, where there is one: by onnxruntime-gpu, and by eager torch.

Never run by CI, which has no GPU; `pytest tests/targets/onboard` on a machine with one does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compress.candidate import Candidate
from targets.agreement import Agreement, outputs_against
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.formats.deep_compression import DeepCompressionExporter
from targets.measurement import Plan, Target
from targets.onboard.nvidia import described
from tests.nets import digits_residual_spec

NETS = Path(__file__).resolve().parents[2] / "golden" / "arm"
PICTURES = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32)
ONCE = Plan(runs=5, rounds=1, warmup_s=0.05, max_s=0.2)

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
needs_onnxruntime_gpu = pytest.mark.skipif(
    not (HAS_CUDA and described()["adapter"]), reason="no NVIDIA GPU, or no onnxruntime-gpu"
)
needs_torch_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no CUDA device"
)


def on_cuda(name: str) -> Agreement:
    return outputs_against(NETS / name, Target(LocalDevice(), engine="cuda"), PICTURES)


@needs_onnxruntime_gpu
def test_whole_floats_agree_with_the_processor_and_all_nodes_run_there() -> None:
    found = on_cuda("residual-fp32.onnx")
    assert found.largest < 1e-5 * found.range
    assert found.top1 == 1.0
    assert found.cpu_nodes == {}
    assert found.copies == {"MemcpyToHost": 0, "MemcpyFromHost": 0}
    assert found.adapter


@needs_onnxruntime_gpu
def test_int8_agrees_and_what_stays_on_the_processor_is_told() -> None:
    found = on_cuda("residual-int8.onnx")
    assert found.top1 == 1.0
    assert found.nodes is not None
    assert found.nodes["CUDAExecutionProvider"] > 0


@needs_onnxruntime_gpu
def test_it_is_timed_with_and_without_the_copies() -> None:
    target = Target(LocalDevice(), engine="cuda")
    (found,) = benchmark([NETS / "residual-fp32.onnx"], [target], ONCE)
    assert found.timed
    assert found.resident_ms is not None
    assert found.resident_ms > 0


@needs_torch_cuda
def test_a_container_in_eager_torch(tmp_path: Path) -> None:
    net = Candidate.untrained(digits_residual_spec(), 0)
    path = tmp_path / "net.dc"
    DeepCompressionExporter()(net, path)
    target = Target(LocalDevice(), engine="torch-cuda")
    found = outputs_against(path, target, PICTURES)
    assert found.largest < 1e-5 * found.range
    (timed,) = benchmark([path], [target], ONCE)
    assert timed.timed
    assert timed.provider == "eager, CUDA"
