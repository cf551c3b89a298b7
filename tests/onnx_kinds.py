"""Every kind of .onnx file that is emitted, each with the trained net in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import recipes
from compress.candidate import Candidate
from compress.models.squeezenet import squeezenet1_1_spec
from compress.stage import run
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Task
from targets.artifact import Artifact
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_branch_spec
from tests.onnx_files import folded, quantized

WEIGHTS = Path(recipes.__file__).parent / "weights" / "squeezenet-cifar10.safetensors"


def dense() -> Candidate:
    return folded(digits_branch_spec)


def int8() -> Candidate:
    return quantized(digits_branch_spec)


def pruned() -> Candidate:
    return PruneMagnitude(0.5)(dense(), trained(digits_branch_spec).task).candidate


@functools.cache
def shared() -> Candidate:
    return ShareWeights(4)(pruned(), trained(digits_branch_spec).task).candidate


@functools.cache
def shared_int8() -> Candidate:
    return QuantizeInt8()(shared(), trained(digits_branch_spec).task).candidate


@functools.cache
def squeezenet() -> Candidate:
    """Large enough for every form that pays only there; its pictures are noise."""
    start = Candidate.load(squeezenet1_1_spec(small=True), WEIGHTS)
    stages = (FoldBatchNorm(), PruneMagnitude(2 / 3), ShareWeights(4))
    return run(start, stages, Task(evaluate=lambda _: {}, fingerprint="none"))


@functools.cache
def squeezenet_int8() -> Candidate:
    def calibration() -> Iterable[NDArray[np.float32]]:
        return [noise(squeezenet())]

    task = Task(evaluate=lambda _: {}, fingerprint="none", calibration=calibration)
    return QuantizeInt8()(squeezenet(), task).candidate


def noise(candidate: Candidate) -> NDArray[np.float32]:
    shape = candidate.spec.input_shape[1:]
    return np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)


class Kind(NamedTuple):
    """A kind of file: its exporter, and the net in it."""

    exporter: OnnxExporter | OnnxPackedExporter
    candidate: Callable[[], Candidate]

    def artifact(self) -> Artifact:
        """The file, written once a session."""
        return exported(self.exporter, self.candidate())

    def pictures(self) -> NDArray[np.float32]:
        """What to ask it: digits, or noise."""
        candidate = self.candidate()
        if candidate.spec.input_shape[1:] == (1, 8, 8):
            return digits()["test"].images[:100]
        return noise(candidate)


def mixed() -> Candidate:
    """One layer computes in float."""
    return quantized(digits_branch_spec, ("stem.0",))


PLAIN = OnnxExporter()
COMPATIBLE, MODERN = OnnxPackedExporter(), OnnxPackedExporter("modern")
KINDS = {
    "fp32": Kind(PLAIN, dense),
    "fp32, opset 19": Kind(OnnxExporter(opset=19), dense),
    "fp32, opset 20": Kind(OnnxExporter(opset=20), dense),
    "fp32, opset 21": Kind(OnnxExporter(opset=21), dense),
    "int8": Kind(PLAIN, int8),
    "int8, opset 21": Kind(OnnxExporter(opset=21), int8),
    "int8, signed": Kind(OnnxExporter(activation_type="int8"), int8),
    "int8, one layer float": Kind(PLAIN, mixed),
    "pruned": Kind(PLAIN, pruned),
    "pruned, packed": Kind(COMPATIBLE, pruned),
    "pruned, packed, modern": Kind(MODERN, pruned),
    "shared": Kind(PLAIN, shared),
    "shared, packed": Kind(COMPATIBLE, shared),
    "shared, packed, modern": Kind(MODERN, shared),
    "shared int8": Kind(PLAIN, shared_int8),
    "shared int8, packed": Kind(COMPATIBLE, shared_int8),
    "shared int8, packed, modern": Kind(MODERN, shared_int8),
    "SqueezeNet": Kind(PLAIN, squeezenet),
    "SqueezeNet, packed": Kind(COMPATIBLE, squeezenet),
    "SqueezeNet, packed, modern": Kind(MODERN, squeezenet),
    "SqueezeNet int8": Kind(PLAIN, squeezenet_int8),
    "SqueezeNet int8, packed": Kind(COMPATIBLE, squeezenet_int8),
    "SqueezeNet int8, packed, modern": Kind(MODERN, squeezenet_int8),
}
