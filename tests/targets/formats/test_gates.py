"""Squeeze-and-excite and h-swish, which TFLite's integers only half know: right in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import Candidate
from compress.errors import ExportError
from compress.graph import TensorId
from compress.models.mobilenet_v3 import SqueezeExcitation
from compress.network import TorchNetwork
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from targets.equivalence import assert_equivalent
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.formats.tflite_schema import Source, names_of
from targets.matching import match_tensors
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits
from tests.nets import digits_plain_spec

PICTURES = digits()["validation"].images[:32]


class Gated(nn.Module):
    """Convolution, h-swish, squeeze-and-excite, 1 x 1, h-swish, mean, classifier; no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.gate = SqueezeExcitation(32)
        self.widen = nn.Conv2d(32, 48, 1)
        self.act1, self.act2 = nn.Hardswish(), nn.Hardswish()
        self.fc = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.gate(self.act1(self.stem(x)))
        return self.fc(self.act2(self.widen(x)).mean((2, 3)))


class Functional(Gated):
    """The same gate, where no module says that it is a hard sigmoid."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.stem(x))
        x = x * F.hardsigmoid(self.gate.fc2(F.relu(self.gate.fc1(x.mean((2, 3), keepdim=True)))))
        return self.fc(self.act2(self.widen(x)).mean((2, 3)))


def floating(net: type[nn.Module]) -> Candidate:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = net()
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
    spec = digits_plain_spec()  # its input and classes; its builder is never asked
    return Candidate(spec, TorchNetwork(module, spec.input_shape))


def integer(net: type[nn.Module]) -> Candidate:
    images = digits()["calibration"].images
    task = Task(evaluate=lambda _: {}, fingerprint="", calibration=lambda: iter([images]))
    return QuantizeInt8()(floating(net), task).candidate


def test_products_and_gates_have_grids_of_their_own() -> None:
    grids = integer(Gated).activations
    gate = grids[TensorId("gate.scale_activation", "hardsigmoid")]
    assert gate.zero_point == 0
    assert 0 < gate.scale <= 1 / 255
    for tensor in (
        TensorId("gate", "mul"),
        TensorId("act1", "hardswish"),
        TensorId("stem", "conv2d"),
    ):
        assert tensor in grids


@pytest.mark.parametrize("make", [floating, integer])
@pytest.mark.parametrize(
    ("exporter", "runtime"),
    [(OnnxExporter(), OnnxRuntime()), (TFLiteExporter(), LiteRtRuntime())],
    ids=["onnx", "tflite"],
)
def test_files_compute_what_the_candidate_computes(
    make: object, exporter: OnnxExporter | TFLiteExporter, runtime: object, tmp_path: Path
) -> None:
    candidate = make(Gated)  # type: ignore[operator]
    artifact = exporter(candidate, tmp_path / f"net{exporter.suffix}")
    found = assert_equivalent(candidate, artifact, runtime, PICTURES)  # type: ignore[arg-type]
    assert found.top1_agreement == 1.0


def test_layers_and_products_are_integer_and_the_rest_stays_in_one_piece(tmp_path: Path) -> None:
    artifact = TFLiteExporter()(integer(Gated), tmp_path / "net.tflite")
    source = Source(artifact.path.read_bytes())
    types = names_of("TensorType")
    kinds: dict[str, set[str]] = {}
    for operator in source.operators:
        output = source.tensors[int(operator.outputs[0])]
        kinds.setdefault(source.kind(operator), set()).add(types[output.type])
    assert kinds["CONV_2D"] == {"INT8"}
    assert "INT8" in kinds["MUL"]  # the gate; a float one is part of the hard sigmoid
    assert kinds["HARD_SWISH"] == {"FLOAT32"}
    engine = LiteRtRuntime().load(artifact.path)
    assert engine.provider == "XNNPACK"


def test_a_hard_sigmoid_that_became_part_of_its_convolution_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    with pytest.raises(ExportError, match="made by CONV_2D, is no tensor of the net"):
        TFLiteExporter()(integer(Functional), path)
    assert not path.exists()


def test_a_gate_is_found_though_the_large_input_was_rounded_otherwise() -> None:
    """A convolution of 300 with a relative error of 1e-6 moves its hard sigmoid by 5e-5 or more."""
    gate, conv = TensorId("gate", "hardsigmoid"), TensorId("gate", "conv2d")
    values = np.linspace(0, 1, 64, dtype=np.float32)
    shifted = (values + np.float32(1e-3)).reshape(8, 8)
    assert match_tensors({gate: values}, {"a": shifted}) == {"a": gate}
    assert match_tensors({conv: values}, {"a": shifted}) == {}
    assert match_tensors({gate: values}, {"a": shifted + np.float32(1e-2)}) == {}
