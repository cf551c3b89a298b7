"""Nets with layers of every split: their .onnx, .tflite and container agree with them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.errors import MissingExtraError
from compress.split_layers import SPLITS
from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from targets.equivalence import assert_equivalent
from targets.formats.deep_compression import DeepCompressionExporter, load
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_residual_spec


@functools.cache
def factorized(split: str, int8: bool = False) -> Candidate:
    candidate, task = trained(digits_residual_spec)
    done = FactorizeSVD(rank=6, split=split, weigh="answers")(candidate, task).candidate
    done = FoldBatchNorm()(done, task).candidate
    return QuantizeInt8()(done, task).candidate if int8 else done


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("exporter", "runtime"), [(OnnxExporter(), OnnxRuntime()), (TFLiteExporter(), LiteRtRuntime())]
)
def test_files_agree(split: str, int8: bool, exporter: Any, runtime: Any) -> None:
    candidate = factorized(split, int8)
    try:
        artifact = exported(exporter, candidate)
        found = assert_equivalent(candidate, artifact, runtime, digits()["test"].images[:64])
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert found.samples == 64
    assert any(getattr(edit, "split", "") == split for edit in candidate.edits)


@pytest.mark.parametrize("split", SPLITS)
def test_containers_give_it_back(split: str, tmp_path: Path) -> None:
    candidate = factorized(split)
    path = DeepCompressionExporter()(candidate, tmp_path / "net.dc").path
    back = load(path, digits_residual_spec())
    assert back.digest() == candidate.digest()
    assert back.edits == candidate.edits
    pictures = digits()["test"].images[:8]
    np.testing.assert_array_equal(back.predict(pictures), candidate.predict(pictures))
