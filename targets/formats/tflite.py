"""The .tflite exporter: float32, or full-integer int8 on exactly the candidate's grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from compress.atomic import write_bytes
from compress.candidate import Candidate
from compress.errors import RangeError
from compress.spec import TensorSpec
from targets.artifact import Artifact, Exporter, artifact_of
from targets.formats.exportable import OUTPUT
from targets.formats.tflite_convert import float_flatbuffer
from targets.formats.tflite_plan import Plan, check_integers, plan_integers
from targets.formats.tflite_rewrite import rewrite
from targets.formats.tflite_schema import Source, names_of
from targets.formats.tflite_sketch import Sketch
from targets.metadata import artifact_metadata


@dataclass(frozen=True)
class TFLiteExporter:
    """Writes a candidate for LiteRT, pictures NHWC, batch 1; equal candidates, equal bytes.

    A candidate with activation grids becomes an integer file: weights int8, biases int32,
    activations int8 (the grid's codes less 128). `io` 'int8' gives it integer ends (scale and
    zero point are in the file), 'float32' converts there. The net, its classes and preprocessing
    travel as metadata `edgepress`.

    int4 weights are stored as int8, the same numbers: XNNPACK does not take int4 convolutions, and
    with LiteRT 2.3's built-in kernels MobileNetV2 took 12 times as long.
    """

    format: ClassVar[str] = "tflite"
    suffix: ClassVar[str] = ".tflite"

    io: Literal["int8", "float32"] = "int8"

    def __post_init__(self) -> None:
        check_io("TFLiteExporter", self.io)

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `path`, whole or not at all. ExportError for a net that TFLite cannot hold."""
        source, plan = planned(candidate)
        made = rewrite(source, plan, integer_ends=self.io == "int8")
        return write_sketch(self, candidate, path, made)


def check_io(name: str, io: str) -> None:
    """RangeError for ends that are neither 'int8' nor 'float32'."""
    if io not in ("int8", "float32"):
        raise RangeError(f"{name}(io={io!r}): allowed are 'int8', 'float32'")


def planned(candidate: Candidate) -> tuple[Source, Plan]:
    """The candidate's float model, and the grids of it; ExportError for what TFLite cannot hold."""
    if candidate.activations:
        check_integers(candidate)
    content = float_flatbuffer(candidate)
    source = Source(content)
    return source, plan_integers(candidate, content, source) if candidate.activations else Plan()


def write_sketch(
    exporter: Exporter, candidate: Candidate, path: Path, made: tuple[Sketch, list[int], list[int]]
) -> Artifact:
    """Write (model, its inputs, its outputs), whole or not at all, with metadata."""
    sketch, inputs, outputs = made
    ends = {spec.name: i for spec, i in zip(candidate.spec.inputs, inputs, strict=True)}
    results = {OUTPUT if n == 0 else f"{OUTPUT}_{n}": i for n, i in enumerate(outputs)}
    specs = _specs(sketch, ends)
    data = sketch.finish(ends, results, artifact_metadata(candidate, specs))
    write_bytes(path, data)
    return artifact_of(exporter, candidate, path, specs, _specs(sketch, results))


def _specs(sketch: Sketch, ends: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    def spec(name: str, tensor: Any) -> TensorSpec:
        shape = tuple(int(size) for size in tensor.shape)
        dtype = names_of("TensorType")[tensor.type].lower()
        return TensorSpec(name, shape, dtype, "NHWC" if len(shape) == 4 else "NC")

    return tuple(spec(name, sketch.tensors[index]) for name, index in ends.items())
