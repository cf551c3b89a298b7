"""Nets with fewer channels in files: both formats answer as the candidate, the container too."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.pruning.planning import best_kept, coupled_sets, planned
from compress.pruning.removal import remove
from compress.stages.fold_batchnorm import FoldBatchNorm
from targets.equivalence import assert_equivalent
from targets.formats.deep_compression import DeepCompressionExporter, load
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits_task
from tests.every_net import lively

NETS = ("lenet5", "resnet20", "shufflenet_v2")


@functools.cache
def cut(name: str) -> Candidate:
    candidate = lively(name)
    sets, _ = coupled_sets(candidate)
    plan = planned(candidate, {one.name: round(0.7 * one.channels) for one in sets})
    rng = np.random.default_rng(0)
    kept = best_kept(plan, sets, {one.name: rng.random(one.channels) for one in sets})
    return FoldBatchNorm()(remove(candidate, kept), digits_task()).candidate


def pictures(candidate: Candidate) -> np.ndarray:
    shape = candidate.spec.input_shape[1:]
    return np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_the_onnx_file_answers_as_the_cut_net(name: str, tmp_path: Path) -> None:
    artifact = OnnxExporter()(cut(name), tmp_path / "net.onnx")
    assert_equivalent(cut(name), artifact, OnnxRuntime(), pictures(cut(name)))


@pytest.mark.parametrize("name", ["resnet20"])
def test_the_tflite_file_answers_as_the_cut_net(name: str, tmp_path: Path) -> None:
    artifact = TFLiteExporter()(cut(name), tmp_path / "net.tflite")
    assert_equivalent(cut(name), artifact, LiteRtRuntime(), pictures(cut(name)))


@pytest.mark.parametrize("name", NETS)
def test_the_container_gives_the_cut_net_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.dc"
    DeepCompressionExporter()(cut(name), path)
    again = load(path)
    assert again.digest() == cut(name).digest()
    assert again.edits == cut(name).edits
    # What is told of the channels is small beside the net.
    told = sum(len(repr(edit)) for edit in cut(name).edits)
    assert told < 0.05 * sum(p.nbytes for p in cut(name).network.parameters().values())
