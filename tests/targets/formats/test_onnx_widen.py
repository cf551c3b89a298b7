"""The first convolution of an integer file: channels by fours, where the engine is faster so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from targets.formats import onnx_qdq
from targets.formats.onnx import OnnxExporter
from tests.digits import digits
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.onnx_files import Spec, optimized, outputs, quantized, written

PICTURES = digits()["validation"].images[:8]


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec])
def test_the_first_layer_has_four_channels_and_computes_the_same_bits(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = written(quantized(spec))
    graph = optimized(artifact.path, "ORT_ENABLE_ALL", tmp_path)
    first = next(n for n in graph.node if n.op_type == "QLinearConv")
    (weight,) = [t for t in graph.initializer if t.name == first.input[3]]
    assert list(weight.dims)[1] == 4
    assert [n.op_type for n in graph.node].count("Pad") == 1

    def nothing(*_: object) -> None:
        """The file as it would be without."""

    monkeypatch.setattr(onnx_qdq, "widen_input", nothing)
    plain = OnnxExporter()(quantized(spec), tmp_path / "plain.onnx")
    assert plain.sha256 != artifact.sha256
    for optimize in (True, False):
        wide, narrow = (outputs(a.path, PICTURES, optimize) for a in (artifact, plain))
        assert np.array_equal(wide, narrow)
    assert artifact.size_bytes - plain.size_bytes < 500


def test_signed_files_are_left_alone() -> None:
    """Those are for ARM, whose kernels have no such step."""
    signed = written(quantized(digits_branch_spec), OnnxExporter(activation_type="int8"))
    assert "Pad" not in {n.op_type for n in onnx.load(signed.path).graph.node}
    unsigned = written(quantized(digits_branch_spec))
    assert "Pad" in {n.op_type for n in onnx.load(unsigned.path).graph.node}
