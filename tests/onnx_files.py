"""Trained nets, folded and on int8 grids, and their .onnx files, each made once a session."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from compress.candidate import Candidate
from compress.spec import ModelSpec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from targets.artifact import Artifact, file_sha256
from targets.formats.onnx import OnnxExporter
from tests.digits import trained

Spec = Callable[[], ModelSpec]
EXPORTER = OnnxExporter()


@functools.cache
def folded(spec: Spec) -> Candidate:
    candidate, task = trained(spec)
    return FoldBatchNorm()(candidate, task).candidate


@functools.cache
def quantized(spec: Spec, keep_float: tuple[str, ...] = ()) -> Candidate:
    stage = QuantizeInt8(keep_float=keep_float)
    return stage(folded(spec), trained(spec).task).candidate


@functools.cache
def written(candidate: Candidate, exporter: OnnxExporter = EXPORTER) -> Artifact:
    """The candidate's .onnx file; candidates are told by identity."""
    folder = Path(tempfile.mkdtemp())
    return exporter(candidate, folder / "net.onnx")


def tampered(artifact: Artifact, change: Callable[[onnx.ModelProto], None], path: Path) -> Artifact:
    """A copy of the file with something changed in it."""
    model = onnx.load_from_string(artifact.path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    return replace(artifact, path=path, sha256=file_sha256(path))


def values(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor).copy()


def put(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Replace the values of one initializer."""
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(np.array(array, order="C"), name))
