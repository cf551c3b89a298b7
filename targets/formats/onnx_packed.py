"""Exporter to a small .onnx that decodes itself, by standard operators, when a session starts.

Zeros and shared weights do not shrink an ordinary .onnx. Here each weight stands in the smallest
exact form: in prefix codes of all tensors together (`grouping`, `forest`), or in codes of one
width, with or without a mask (`packing`); with the operators that give it back (`bundle_graph`,
`unpacking`). onnxruntime folds them at every level but DISABLE_ALL: the session then holds the same
dense net, with the same outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from compress.candidate import Candidate
from compress.errors import RangeError
from targets.artifact import Artifact
from targets.formats.onnx import build_model, write_model
from targets.formats.onnx_pack import PROFILES, pack


@dataclass(frozen=True)
class OnnxPackedExporter:
    """Writes .packed.onnx, as small as it can be.

    profile: "compatible" (opset 18) or "modern" (21, 4-bit tensors). quick: to load, so without
    prefix codes: up to twice the bytes, three quarters of the time and two thirds of the memory.
    An int8 candidate is written as OnnxExporter does, its int8 weights packed.
    """

    format: ClassVar[str] = "onnx-packed"
    suffix: ClassVar[str] = ".packed.onnx"

    profile: Literal["compatible", "modern"] = "compatible"
    quick: bool = False

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            allowed = ", ".join(map(repr, PROFILES))
            raise RangeError(f"OnnxPackedExporter(profile={self.profile!r}): allowed are {allowed}")

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `candidate` to `path`, whole or not at all; equal candidates give equal bytes.

        The decoded weights are those of OnnxExporter's file bit for bit, and so are the outputs.
        Raises EncodingError for an encoding that does not decode to its parameter, ExportError for
        what cannot be written as the candidate computes it.
        """
        candidate.check()
        model = build_model(candidate, PROFILES[self.profile])
        pack(model, candidate.encodings, self.profile == "modern", self.quick)
        return write_model(self, candidate, model, path)
