"""Exporter to a small .tflite whose weights unpack themselves when stock LiteRT loads it.

Zeros and shared weights do not shrink an ordinary .tflite. Here each weight stands in the smallest
exact form (`tflite_packing`), with the operators DENSIFY and DEQUANTIZE that give it back. XNNPACK
runs those once, at load: the graph then holds the same dense net, with the same outputs.

What was not measured: on processors for which XNNPACK has fast sparse kernels (by its source ARM,
not x86 with AVX) it may take those for a net built like a MobileNet, whose sums then
round otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.encoding import Encoded
from targets.artifact import Artifact
from targets.formats.packing import as_half, same_bits
from targets.formats.tflite import check_io, planned, write_sketch
from targets.formats.tflite_layers import CHANNEL_AXIS
from targets.formats.tflite_packing import Form, Integers, smallest_form
from targets.formats.tflite_plan import file_layout
from targets.formats.tflite_rewrite import rewrite
from targets.formats.tflite_schema import NO_TENSOR, WEIGHTED, Source

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class TFLitePackedExporter:
    """Writes .packed.tflite, as TFLiteExporter does, with small weights.

    The integers of an int8 candidate's convolutions are stored sparse where that is smaller.
    """

    format: ClassVar[str] = "tflite-packed"
    suffix: ClassVar[str] = ".packed.tflite"

    io: Literal["int8", "float32"] = "int8"

    def __post_init__(self) -> None:
        check_io("TFLitePackedExporter", self.io)

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `path`, whole or not at all; equal candidates give equal bytes.

        The unpacked weights are those of TFLiteExporter's file bit for bit, and so are the
        outputs. Raises EncodingError for an encoding that does not decode to its parameter,
        ExportError for a net that TFLite cannot hold.
        """
        candidate.check()
        source, plan = planned(candidate)
        names, forms = _forms(candidate, source, plan.weights)
        plan = replace(plan, names={**plan.names, **names}, forms=forms, sparse=True)
        made = rewrite(source, plan, integer_ends=self.io == "int8")
        return write_sketch(self, candidate, path, made)


def _forms(
    candidate: Candidate, source: Source, integer: Mapping[int, object]
) -> tuple[dict[int, str], dict[int, Form]]:
    """Names and forms, by tensor number, of the constants that are not stored plain.

    `integer`: the weights that are on integers already. Layers that share a bias go together:
    float16 weights are written with a float16 bias only, for XNNPACK wants both of one type.
    """
    names: dict[int, str] = {}
    forms: dict[int, Form] = {}
    by_bias: dict[int, dict[int, tuple[FloatArray, Integers | None]]] = {}
    for kind, weight, bias in _layers(source):
        values = source.constant(weight)
        if values is None or values.dtype != np.float32 or weight in integer or weight in names:
            continue
        names[weight], integers = _explained(candidate, values, kind)
        by_bias.setdefault(bias, {})[weight] = values, integers
    for bias, weights in by_bias.items():
        steps = _half_bias(source, bias)
        chosen = {
            w: smallest_form(*found, halves=steps is not None) for w, found in weights.items()
        }
        halves = [form.is_half for form in chosen.values()]
        if any(halves) and not all(halves):
            chosen = {w: smallest_form(*found, halves=False) for w, found in weights.items()}
        elif any(halves) and steps:
            forms |= steps
        forms |= chosen
    packed = {index: form for index, form in forms.items() if not form.is_plain}
    return {index: name for index, name in names.items() if index in packed}, packed


def _layers(source: Source) -> Iterator[tuple[str, int, int]]:
    """(kind, weight, bias) of each layer."""
    for operator in source.operators:
        kind = source.kind(operator)
        if kind in WEIGHTED:
            inputs = [int(i) for i in operator.inputs]
            yield kind, inputs[1], inputs[2] if len(inputs) > 2 else NO_TENSOR


def _half_bias(source: Source, bias: int) -> dict[int, Form] | None:
    """The bias in float16; nothing for a layer without one, None where that is not exact."""
    values = None if bias == NO_TENSOR else source.constant(bias)
    if values is None:
        return {} if bias == NO_TENSOR else None
    half = as_half(values)
    return None if half is None else {bias: Form(half)}


def _explained(candidate: Candidate, values: FloatArray, kind: str) -> tuple[str, Integers | None]:
    """The parameter whose values these are, and its integers where its encoding has any."""
    for name, parameter in candidate.network.parameters().items():
        if same_bits(file_layout(parameter, kind), values):
            encoding = candidate.encodings.get(name)
            return name, _integers(encoding, kind) if isinstance(encoding, Encoded) else None
    return "weight", None


def _integers(encoding: Encoded, kind: str) -> Integers | None:
    """Codes in the file's layout; None for floats, and for scales that are not of the outputs."""
    if not encoding.on_integers or encoding.axis not in (None, 0):
        return None
    integers, scale = encoding.runtime_form()
    axis = 0 if encoding.axis is None else CHANNEL_AXIS[kind]
    codes = np.ascontiguousarray(file_layout(integers, kind), np.int8)
    return Integers(codes, scale, axis)
