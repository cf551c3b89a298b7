"""What LiteRT makes of a .tflite file: the arithmetic of its layers, what XNNPACK took.

The interpreter is made ready, not run. It lists the file's operators and, behind them, one
DELEGATE for each part that the delegate took, by the tensors that go into it and come out: the
part's operators are those between.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.errors import DataError, EdgepressError, one_line
from targets.audit.data import Arithmetic, Audit, Converted, Layer
from targets.files import read_bytes
from targets.formats.tflite_schema import WEIGHTED, Source, names_of
from targets.runtimes.litert import DELEGATES, listed_operators, litert_module
from targets.runtimes.tflite_bounds import is_whole

_LAYERS = {*WEIGHTED, "TRANSPOSE_CONV"}
# What gives a constant another form, once or at every run.
_UNPACKING = ("DEQUANTIZE", "DENSIFY", "GATHER", "RESHAPE", "CAST", "MUL")


def audit_tflite(path: Path) -> Audit:
    """Raises DataError, one line, for what is no such file; MissingExtraError without LiteRT."""
    content = read_bytes(path, "a .tflite file")
    if not is_whole(content):
        raise DataError(f"{path} is no whole .tflite file; export it anew")
    litert_module("schema_py_generated", f"auditing {path}")  # says what to install
    listed, runtime = listed_operators(content, str(path))
    try:
        source = Source(content)
        kinds = [source.kind(operator) for operator in source.operators]
        layers = tuple(_layer(source, i, kind) for i, kind in enumerate(kinds) if kind in _LAYERS)
        expanded = _expanded(source, kinds)
        in_int8 = _in_int8(source, kinds)
    except EdgepressError:
        raise
    # Offsets of a damaged file lead anywhere; the reader answers with whatever it stumbles over.
    except Exception as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); export it anew") from error
    delegates = [operator for operator in listed if operator["op_name"] in DELEGATES]
    taken = _taken(listed[: len(kinds)], delegates)
    counts = Counter(kinds)
    return Audit(
        runtime=runtime,
        provider="XNNPACK" if delegates else "built-in kernels",
        layers=layers,
        operators=dict(counts.most_common()),
        in_int8=in_int8,
        taken=len(taken) if delegates else len(kinds),
        parts=max(1, len(delegates)),
        quantize=_same(counts["QUANTIZE"]),
        dequantize=_same(counts["DEQUANTIZE"]),
        transpose=_same(counts["TRANSPOSE"]),
        left=_left(kinds, taken) if delegates else {},
        expanded=tuple(name for i, name in expanded.items() if not delegates or i not in taken),
    )


def _taken(listed: Sequence[Mapping[str, Any]], delegates: Sequence[Mapping[str, Any]]) -> set[int]:
    """The operators that the delegates run, by their places."""
    makers = {int(t): place for place, op in enumerate(listed) for t in op["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        given = {int(tensor) for tensor in delegate["inputs"]}
        wanted = [int(tensor) for tensor in delegate["outputs"]]
        while wanted:
            place = makers.get(wanted.pop())
            if place is not None and place not in taken:
                taken.add(place)
                wanted += [int(t) for t in listed[place]["inputs"] if int(t) not in given]
    return taken


def _left(kinds: Sequence[str], taken: set[int]) -> dict[str, int]:
    left = Counter(kind for place, kind in enumerate(kinds) if place not in taken)
    return dict(left.most_common())


def _layer(source: Source, place: int, kind: str) -> Layer:
    operator = source.operators[place]
    # A transposed convolution has the shape to make in front.
    picture, weight = (2, 1) if kind == "TRANSPOSE_CONV" else (0, 1)
    ends = [int(operator.inputs[picture]), int(operator.inputs[weight])]
    types = [names_of("TensorType")[source.tensors[index].type] for index in ends]
    integers = all("INT" in name for name in types)
    arithmetic: Arithmetic = "int8" if integers else "float"
    name = source.tensors[ends[1]].name.decode()
    macs = _macs(kind, *(source.shape(index) for index in (*ends, int(operator.outputs[0]))))
    return Layer(name, kind, kind, arithmetic, arithmetic, macs)


def _macs(
    kind: str, picture: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]
) -> int | None:
    """Multiplications of one picture; weights are OHWI, depthwise ones 1HWO."""
    if kind == "FULLY_CONNECTED":
        return math.prod(weight) * math.prod(out[1:-1])
    if len(weight) != 4 or len(out) != 4 or len(picture) != 4:
        return None
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(out[1:]) * weight[1] * weight[2]
    if kind == "TRANSPOSE_CONV":
        return math.prod(picture[1:]) * math.prod(weight[:3])
    return math.prod(out[1:]) * math.prod(weight[1:])


def _expanded(source: Source, kinds: Sequence[str]) -> dict[int, str]:
    """{place: constant} of operators that give a constant another form."""
    constant = {
        i for i, t in enumerate(source.tensors) if source.model.buffers[t.buffer].data is not None
    }
    found: dict[int, str] = {}
    for place, (operator, kind) in enumerate(zip(source.operators, kinds, strict=True)):
        inputs = {int(i) for i in operator.inputs if i >= 0}
        if kind in _UNPACKING and inputs <= constant:
            constant |= {int(i) for i in operator.outputs}
            found[place] = source.tensors[int(operator.outputs[0])].name.decode()
    return found


def _in_int8(source: Source, kinds: Sequence[str]) -> dict[str, int]:
    """Operators that give 8-bit integers, but those that make them out of floats or constants."""
    names = names_of("TensorType")
    found: Counter[str] = Counter()
    for operator, kind in zip(source.operators, kinds, strict=True):
        types = {names[source.tensors[int(index)].type] for index in operator.outputs}
        if types <= {"INT8", "UINT8"} and kind not in ("QUANTIZE", "DEQUANTIZE", "DENSIFY"):
            found[kind] += 1
    return dict(found.most_common())


def _same(count: int) -> Converted:
    return Converted(count, count)
