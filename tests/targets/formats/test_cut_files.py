"""Nets with fewer channels in files: both formats answer as the candidate, the container too."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from compress.candidate import Candidate
from compress.stages.fold_batchnorm import FoldBatchNorm
from targets.equivalence import assert_equivalent
from targets.formats.deep_compression import DeepCompressionExporter, load
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.cuts import cut, pictures
from tests.digits import digits_task

NETS = ("lenet5", "resnet20", "shufflenet_v2")


@functools.cache
def folded(name: str) -> Candidate:
    return FoldBatchNorm()(cut(name)[0], digits_task()).candidate


@pytest.mark.parametrize("name", NETS)
def test_the_onnx_file_answers_as_the_cut_net(name: str, tmp_path: Path) -> None:
    artifact = OnnxExporter()(folded(name), tmp_path / "net.onnx")
    assert_equivalent(folded(name), artifact, OnnxRuntime(), pictures(folded(name), 3))


@pytest.mark.parametrize("name", ["resnet20"])
def test_the_tflite_file_answers_as_the_cut_net(name: str, tmp_path: Path) -> None:
    artifact = TFLiteExporter()(folded(name), tmp_path / "net.tflite")
    assert_equivalent(folded(name), artifact, LiteRtRuntime(), pictures(folded(name), 3))


@pytest.mark.parametrize("name", NETS)
def test_the_container_gives_the_cut_net_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.dc"
    DeepCompressionExporter()(folded(name), path)
    again = load(path)
    assert again.digest() == folded(name).digest()
    assert again.edits == folded(name).edits
    # What is told of the channels is small beside the net.
    told = sum(len(repr(edit)) for edit in folded(name).edits)
    assert told < 0.05 * sum(p.nbytes for p in folded(name).network.parameters().values())
