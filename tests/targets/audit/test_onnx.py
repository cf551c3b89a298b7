"""The audit says what onnxruntime computes in, layer by layer, and what did not become int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.candidate import Candidate
from compress.errors import DataError
from compress.measure import count
from compress.spec import ModelSpec
from targets.audit.data import Audit
from targets.audit.onnx import audit_onnx
from targets.audit.words import LAYER_COLUMNS, audit_lines, layer_rows
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec
from tests.onnx_files import folded, quantized

SPECS = (digits_residual_spec, digits_branch_spec, digits_plain_spec)


def names(audit: Audit, ran: str) -> set[str]:
    return {layer.name for layer in audit.layers if layer.ran == ran}


def weights(candidate: Candidate) -> set[str]:
    return {n for n, p in candidate.network.parameters().items() if p.ndim > 1}


@pytest.mark.parametrize("spec", SPECS)
def test_a_float_file_runs_in_float(spec: Callable[[], ModelSpec]) -> None:
    candidate = folded(spec)
    found = audit_onnx(exported(OnnxExporter(), candidate).path)
    assert {layer.ran for layer in found.layers} == {"float"}
    assert len(found.layers) == len(weights(candidate))
    assert found.macs == count(candidate.spec, candidate.network.module()).macs
    assert found.int8_share == 0
    assert not found.fell_back
    assert (found.quantize.ran, found.dequantize.ran) == (0, 0)
    assert found.taken == sum(found.operators.values())
    assert found.in_int8 == {}


@pytest.mark.parametrize("exporter", [OnnxExporter(), OnnxPackedExporter()], ids=["qdq", "packed"])
@pytest.mark.parametrize("spec", SPECS)
def test_an_int8_file_runs_in_int8(spec: Callable[[], ModelSpec], exporter: OnnxExporter) -> None:
    """Packed int8 weights fuse as plain ones do, once they are folded."""
    candidate = quantized(spec)
    found = audit_onnx(exported(exporter, candidate).path)
    assert names(found, "int8") == weights(candidate)
    assert {layer.asked for layer in found.layers} == {"int8"}
    assert found.int8_share == 1.0
    assert found.macs == count(candidate.spec, candidate.network.module()).macs
    assert found.expanded == ()
    others = {kind for kind in found.operators if kind not in found.in_int8}
    assert others <= {"QuantizeLinear", "DequantizeLinear"}
    assert all(found.in_int8[kind] == found.operators[kind] for kind in found.in_int8)
    assert not any(line.startswith("runs  ") for line in audit_lines(found))
    assert found.dequantize.written > found.dequantize.ran
    assert found.runtime.startswith("onnxruntime 1.")


def test_layers_kept_in_float_are_named() -> None:
    candidate = quantized(digits_residual_spec, ("*conv1*",))
    found = audit_onnx(exported(OnnxExporter(), candidate).path)
    kept = {n for n in weights(candidate) if n not in names(found, "int8")}
    assert kept == names(found, "float") != set()
    assert 0 < (found.int8_share or 0) < 1
    assert not found.fell_back  # float was asked for
    lines = "\n".join(audit_lines(found))
    assert min(kept) in lines
    assert "NOT INT8" not in lines


def unquantized(path: Path, target: Path, place: int) -> str:
    """A copy in which one layer's output is not quantized; the name of its weights' integers."""
    model = onnx.load(path)
    nodes = list(model.graph.node)
    readers = {name: node for node in nodes for name in node.input}
    layer = [node for node in nodes if node.op_type in ("Conv", "Gemm")][place]
    last = readers[layer.output[0]]
    last = last if last.op_type == "Relu" else layer
    quantize = readers[last.output[0]]
    assert quantize.op_type == "QuantizeLinear"
    for back in [n for n in nodes if quantize.output[0] in n.input]:
        for node in nodes:
            for i, name in enumerate(node.input):
                if name == back.output[0]:
                    node.input[i] = last.output[0]
        model.graph.node.remove(back)
    model.graph.node.remove(quantize)
    target.write_bytes(model.SerializeToString())
    (source,) = [n for n in nodes if n.output[0] == layer.input[1]]
    return str(source.input[0])


@pytest.mark.parametrize("exporter", [OnnxExporter(), OnnxPackedExporter()], ids=["qdq", "packed"])
def test_what_does_not_fuse_is_said(exporter: OnnxExporter, tmp_path: Path) -> None:
    path = tmp_path / "unfused.onnx"
    codes = unquantized(exported(exporter, quantized(digits_residual_spec)).path, path, 1)
    found = audit_onnx(path)
    (layer,) = found.fell_back
    assert {"Conv", "FusedConv"}.isdisjoint(found.in_int8)
    assert layer.name == codes.removesuffix("_grid_codes")
    assert (layer.asked, layer.ran) == ("int8", "float")
    # The layer behind it gets floats, so only its weights are int8: float was asked for.
    assert len(names(found, "float")) == 2
    expanded = {name.removesuffix("_grid_codes") for name in found.expanded}
    assert names(found, "float") == {name for name in expanded if "bias" not in name}
    floats = sum(x.macs or 0 for x in found.layers if x.ran == "float")
    assert found.int8_share == pytest.approx(1 - floats / (found.macs or 1))
    last = list(audit_lines(found))[-1]
    assert last.startswith("NOT INT8   1 layer written in int8 run as ")
    assert last.endswith(layer.name)
    assert any(line.startswith("expands    ") for line in audit_lines(found))
    assert found.to_dict()["fell_back"] == [layer.name]


def small(tmp_path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    """x (free batch, 3, 8, 8) -> y."""
    kept = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "net", *ends, kept),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    return path


def test_weight_only_int8_is_dequantized_at_every_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
        helper.make_node("Conv", ["x", "real"], ["y"], pads=[1, 1, 1, 1]),
    ]
    weight = np.ones((4, 3, 3, 3), np.int8)
    found = audit_onnx(small(tmp_path, nodes, {"w": weight, "s": np.array(0.5, np.float32)}))
    assert found.expanded == ("w",)
    assert [(x.name, x.asked, x.ran) for x in found.layers] == [("w", "float", "float")]
    assert found.macs == 4 * 8 * 8 * 27
    assert any("1 constant at every run" in line for line in audit_lines(found))


def test_layers_of_other_kinds_and_unknown_shapes(tmp_path: Path) -> None:
    """A transposed convolution multiplies what it reads; two layers of equal weights are two."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"]),
        helper.make_node("Conv", ["1", "b"], ["2"]),
        helper.make_node("ConvTranspose", ["2", "t"], ["3"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["3"], ["4"]),
        helper.make_node("Flatten", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "g"], ["6"]),
        helper.make_node("MatMul", ["6", "m"], ["y"]),
    ]
    square = rng.normal(size=(3, 3, 1, 1)).astype(np.float32)
    constants = {
        "a": square,
        "b": square.copy(),
        "t": rng.normal(size=(3, 5, 2, 2)).astype(np.float32),
        "g": rng.normal(size=(5, 7)).astype(np.float32),
        "m": rng.normal(size=(7, 2)).astype(np.float32),
    }
    found = audit_onnx(small(tmp_path, nodes, constants))
    assert [layer.name for layer in found.layers] == list(constants)
    assert {layer.ran for layer in found.layers} == {"float"}
    macs = [9 * 64, 9 * 64, 3 * 64 * 5 * 4, 35, 14]
    assert [layer.macs for layer in found.layers] == macs
    rows = layer_rows(found)
    assert all(len(row) == len(LAYER_COLUMNS) for row in rows)
    assert rows[2][4:] == ("3,840", f"{3840 / sum(macs):.1%}")


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.onnx"
    for content in (b"", b"\x08" * 7, b"no graph"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"wrong\.onnx") as caught:
            audit_onnx(path)
        assert "\n" not in str(caught.value)
    node = helper.make_node("Nonesuch", ["x"], ["y"])
    path = small(tmp_path, [node], {})
    path.write_bytes(path.read_bytes().replace(b"Nonesuch", b"None\xf2uch"))
    with pytest.raises(DataError, match=r"small\.onnx"):
        audit_onnx(path)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(DataError, match="cannot be read"):
        audit_onnx(tmp_path / "none.onnx")
