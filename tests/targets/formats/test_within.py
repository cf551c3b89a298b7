"""What QuantizeWithin keeps in float runs as such in the files of both formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.divergence import Divergence
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.int8_sensitivity import sampled
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.quantize_within import QuantizeWithin
from targets.equivalence import assert_equivalent
from targets.file_grids import file_grids
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import Trained
from tests.exports import exported


@pytest.fixture(scope="module")
def mixed(trained_residual: Trained) -> tuple[Candidate, np.ndarray]:
    task = trained_residual.task
    start = FoldBatchNorm()(*trained_residual).candidate
    judging = sampled(start, task, 32).judging
    judge = Divergence.of(start.predict, lambda: (judging,))
    limit = 0.7 * judge(QuantizeInt8()(start, task).candidate.predict)
    candidate = QuantizeWithin(divergence=limit)(start, task).candidate
    assert 0 < len(candidate.float_nodes) < len(start.network.layers())
    assert judge(candidate.predict) <= limit
    return candidate, judging


@pytest.mark.parametrize(
    ("exporter", "runtime"),
    [(OnnxExporter(), OnnxRuntime()), (TFLiteExporter(), LiteRtRuntime())],
    ids=["onnx", "tflite"],
)
def test_a_mixed_net_in_files(
    mixed: tuple[Candidate, np.ndarray], exporter: Any, runtime: Any
) -> None:
    if exporter.format == "tflite":
        pytest.importorskip("litert_torch", reason="needs pip install 'edgepress[tflite]'")
    candidate, pictures = mixed
    artifact = exported(exporter, candidate)
    assert artifact.precision == "mixed"
    assert_equivalent(candidate, artifact, runtime, pictures)
    integer = len(candidate.network.layers()) - len(candidate.float_nodes)
    assert len(file_grids(artifact.path).weights) == integer
