"""Every kind of .onnx file by onnx's own checks: the full checker, and strict shape inference."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, shape_inference

from tests.onnx_kinds import KINDS

LAYERS = {"Conv", "Gemm", "MatMul", "DequantizeLinear", "QuantizeLinear"}


@pytest.mark.parametrize("name", KINDS)
def test_it_passes_the_full_check_and_strict_shape_inference(name: str) -> None:
    """What enters a layer, decoded weights too, has a type and a shape known in advance."""
    model = onnx.load(KINDS[name].artifact().path)
    onnx.checker.check_model(model, full_check=True)
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        assert tensor.elem_type != TensorProto.UNDEFINED
        if all(size.HasField("dim_value") for size in tensor.shape.dim):
            shapes[value.name] = tuple(size.dim_value for size in tensor.shape.dim)
    entering = {i for node in graph.node if node.op_type in LAYERS for i in node.input if i}
    assert entering
    assert entering <= set(shapes), sorted(entering - set(shapes))
    assert shapes[graph.output[0].name] == (1, 10)
