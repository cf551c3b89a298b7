"""What onnxruntime makes of an .onnx file, read from the graph that its session optimized.

Two sessions are opened, none is run. The layers are found again, by their weights' names, in the
graph before the last level of optimization, which only changes layouts; what is run is counted
after it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import onnx

from compress.errors import DataError, one_line
from targets.audit.data import Arithmetic, Audit, Converted, Layer
from targets.audit.onnx_layers import Written, constant_names, layers_of
from targets.files import read_bytes
from targets.runtimes.onnxruntime import PROVIDER

# The operand that holds the weights, by operator; com.microsoft's among them.
_FLOAT = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"), 1),
    **dict.fromkeys(("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits"), 1),
}
_INTEGER = {
    **dict.fromkeys(("QLinearConv", "QLinearConvTranspose", "QLinearMatMul", "QGemm"), 3),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"), 1),
    "DynamicQuantizeMatMul": 1,
}
# Integers come in, 32 bits or floats go out.
_WIDENS = ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "Cast")
_QUANTIZE, _DEQUANTIZE, _TRANSPOSE = "QuantizeLinear", "DequantizeLinear", "Transpose"
_MOVES = (_TRANSPOSE, "ReorderInput", "ReorderOutput")


class _Ran(NamedTuple):
    """A layer of the session's graph."""

    weight: str
    kernel: str
    arithmetic: Arithmetic


def audit_onnx(path: Path) -> Audit:
    """Raises DataError, one line, for what is no model or does not load in onnxruntime."""
    content = read_bytes(path, "an .onnx file")
    try:
        model = onnx.load_from_string(content)
        written = layers_of(model)
    except Exception as error:  # protobuf's and onnx's errors have no common public type
        raise DataError(
            f"{path} is no readable .onnx file ({one_line(error)}); export it anew"
        ) from error
    fused, _ = _optimized(path, content, "ORT_ENABLE_EXTENDED")
    final, runtime = _optimized(path, content, "ORT_ENABLE_ALL")
    operators = Counter(str(node.op_type) for node in final.node)
    before = Counter(str(node.op_type) for node in model.graph.node)
    return Audit(
        runtime=runtime,
        provider=PROVIDER,
        layers=_matched(written, _ran(fused)),
        operators=dict(operators.most_common()),
        in_int8=_in_int8(final),
        taken=len(final.node),
        parts=1,
        quantize=Converted(before[_QUANTIZE], operators[_QUANTIZE]),
        dequantize=Converted(before[_DEQUANTIZE], operators[_DEQUANTIZE]),
        transpose=Converted(before[_TRANSPOSE], sum(operators[kind] for kind in _MOVES)),
        expanded=_expanded(fused),
    )


def _optimized(path: Path, content: bytes, level: str) -> tuple[onnx.GraphProto, str]:
    """(the graph that a session of this level runs, the runtime's name and version)."""
    import onnxruntime as engine  # pyright: ignore[reportMissingTypeStubs]

    options = engine.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(engine.GraphOptimizationLevel, level)
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(aside)
        try:
            # A second try with the same provider would only print.
            engine.InferenceSession(content, options, providers=[PROVIDER], enable_fallback=0)
            graph = onnx.load(aside).graph
        except Exception as error:  # the engine's own exception types share no base class
            raise DataError(f"onnxruntime cannot load {path}: {one_line(error)}") from error
    return graph, f"onnxruntime {engine.__version__}"


def _ran(graph: onnx.GraphProto) -> list[_Ran]:
    """The layers of a session's graph, in order."""
    makers = {str(name): node for node in graph.node for name in node.output}
    constants = constant_names(graph)
    found: list[_Ran] = []
    for node in graph.node:
        kind = str(node.op_type)
        place = _INTEGER.get(kind, _FLOAT.get(kind))
        if place is None or len(node.input) <= place or node.input[place] not in constants:
            continue
        arithmetic: Arithmetic = "int8" if kind in _INTEGER else "float"
        found.append(_Ran(_root(str(node.input[place]), makers), kind, arithmetic))
    return found


def _root(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """The constant that an operand comes from, through dequantizing and moving."""
    while name in makers:
        name = str(makers[name].input[0])
    return name


def _matched(written: Iterable[Written], ran: Iterable[_Ran]) -> tuple[Layer, ...]:
    """Each written layer with its kernel: by its weights' names, the rest by their order."""
    left: dict[str, list[_Ran]] = {}
    for found in ran:
        left.setdefault(found.weight, []).append(found)
    pairs: list[tuple[Written, _Ran | None]] = []
    for layer in written:
        name = next((name for name in layer.names if left.get(name)), None)
        pairs.append((layer, None if name is None else left[name].pop(0)))
    rest = [found for held in left.values() for found in held]
    missing = sum(found is None for _, found in pairs)
    if rest and missing == len(rest):
        pairs = [(layer, rest.pop(0) if found is None else found) for layer, found in pairs]
    return tuple(_layer(layer, found) for layer, found in pairs)


def _layer(layer: Written, found: _Ran | None) -> Layer:
    ran: Arithmetic = "unknown" if found is None else found.arithmetic
    kernel = "" if found is None else found.kernel
    return Layer(layer.label, layer.operator, kernel, layer.asked, ran, layer.macs)


def _in_int8(graph: onnx.GraphProto) -> dict[str, int]:
    """Operators on 8-bit integers; a kind that says nothing of its type keeps what it is given."""
    small = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    integers = {str(v.name) for v in graph.input if v.type.tensor_type.elem_type in small}
    found: Counter[str] = Counter()
    for node in graph.node:
        kind = str(node.op_type)
        named = kind.startswith("QLinear") or kind in _INTEGER
        given = bool(node.input) and node.input[0] in integers
        if kind == _QUANTIZE or (kind != _DEQUANTIZE and (given or named) and kind not in _WIDENS):
            integers.update(str(name) for name in node.output)
        if kind not in (_QUANTIZE, _DEQUANTIZE) and (given or named):
            found[kind] += 1
    return dict(found.most_common())


def _expanded(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Constants that the session dequantizes at every run."""
    constants = {str(tensor.name) for tensor in graph.initializer}
    nodes = (node for node in graph.node if node.op_type == _DEQUANTIZE)
    return tuple(str(node.input[0]) for node in nodes if node.input[0] in constants)
