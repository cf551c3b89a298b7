"""Trained nets, folded and on int8 grids, and their .onnx files, each made once a session."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def outputs(path: Path, batch: np.ndarray, optimize: bool) -> np.ndarray:
    """What stock onnxruntime computes of each picture, at ENABLE_ALL or DISABLE_ALL."""
    session = _exact(path, optimize)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in batch])


def answers(
    path: Path, inputs: dict[str, np.ndarray], wanted: list[str], optimize: bool
) -> list[np.ndarray]:
    """What it computes under the names `wanted`."""
    return _exact(path, optimize).run(wanted, inputs)


def _exact(path: Path, optimize: bool) -> Any:
    """A session of what the file says.

    Unoptimized, the engine would prepare (pack) constant weights of a Gemm for another kernel,
    which sums in another order: that is turned off.
    """
    return _session(path, "ORT_ENABLE_ALL" if optimize else "ORT_DISABLE_ALL", prepack=optimize)


def optimized(path: Path, level: str, folder: Path) -> onnx.GraphProto:
    """The graph that onnxruntime makes of the file at that level, written to `folder`."""
    _session(path, level, folder / "optimized.onnx")
    return onnx.load(folder / "optimized.onnx").graph


def _session(path: Path, level: str, to: Path | None = None, prepack: bool = True) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if to is not None:
        options.optimized_model_filepath = str(to)
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
