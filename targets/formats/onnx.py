"""Exporter to .onnx: float32, or int8 on the candidate's own grids (QDQ form)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import onnx

from compress.atomic import write_bytes
from compress.candidate import Candidate
from compress.errors import RangeError
from compress.spec import TensorSpec
from targets.artifact import Artifact, Exporter, artifact_of
from targets.formats import onnx_nibbles
from targets.formats.exportable import OUTPUT
from targets.formats.onnx_defaults import drop_defaults
from targets.formats.onnx_graph import OPSETS, float_model
from targets.formats.onnx_grids import find_grids
from targets.formats.onnx_qdq import QdqWriter
from targets.formats.onnx_sheet import checked_bytes
from targets.metadata import KEY, artifact_metadata


@dataclass(frozen=True)
class OnnxExporter:
    """Writes .onnx. `activation_type` of int8 files: uint8 is up to twice as fast on x86.

    int4 weights stand in 4 bits at opset 21, else as int8: outputs and latency are the same.
    """

    format: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"

    opset: int = 18
    activation_type: Literal["uint8", "int8"] = "uint8"

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            allowed = ", ".join(map(str, OPSETS))
            raise RangeError(f"OnnxExporter(opset={self.opset!r}): allowed are {allowed}")
        if self.activation_type not in ("uint8", "int8"):
            raise RangeError(
                f"OnnxExporter(activation_type={self.activation_type!r}): allowed are 'uint8', "
                f"'int8'"
            )

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `candidate` to `path`, whole or not at all; equal candidates give equal bytes.

        Batch of one, input by the specification's name, output 'logits', both float32. Raises
        ExportError for what cannot be written as the candidate computes it.
        """
        model = build_model(candidate, self.opset, self.activation_type == "int8")
        if self.opset >= onnx_nibbles.OPSET:
            onnx_nibbles.store_nibbles(model)
        return write_model(self, candidate, model, path)


def build_model(candidate: Candidate, opset: int, signed: bool = False) -> onnx.ModelProto:
    """The candidate as an ONNX model with its metadata; `signed`: int8 activations, else uint8."""
    model = float_model(candidate, opset)
    if candidate.activations:
        grids = find_grids(candidate, model)
        QdqWriter(candidate, grids, signed).rewrite(model)
        drop_defaults(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, artifact_metadata(candidate)
    return model


def write_model(
    exporter: Exporter, candidate: Candidate, model: onnx.ModelProto, path: Path
) -> Artifact:
    """Check `model` and write it, whole or not at all, as `exporter`'s file of `candidate`."""
    write_bytes(path, checked_bytes(model))
    classes = tuple(d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim)
    own = candidate.spec.inputs[0]
    inputs = (TensorSpec(own.name, (1, *own.shape[1:]), "float32", own.layout),)
    layout = "NCHW" if len(classes) == 4 else "NC"
    outputs = (TensorSpec(OUTPUT, classes, "float32", layout),)
    return artifact_of(exporter, candidate, path, inputs, outputs)
