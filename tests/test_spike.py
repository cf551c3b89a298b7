"""The spikes on which the design rests, kept as tests; the second is compress/test_constrained.

1. One set of grids lands in both formats: each file is read with its own format's reader, and no
   code of the exporters is used to compare them.
3. A candidate with encodings folds batch norm without losing masks or clusters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.candidate import Candidate
from compress.encoding import Encoded, Masked
from compress.errors import MissingExtraError
from compress.spec import ModelSpec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.share_weights import ShareWeights
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.onnx_files import quantized

Spec = Callable[[], ModelSpec]
Grid = tuple[np.float32, int]
# A residual add; a concatenation and a channel split.
SPECS = [digits_residual_spec, digits_branch_spec]


@dataclass(frozen=True)
class Constant:
    """Integers (O, I, H, W), (O, I) or (O,), and their scale for each output channel."""

    integers: NDArray[Any]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Integers:
    """What a file holds: activation grids (unsigned convention), int8 weights, int32 biases."""

    grids: set[Grid]
    weights: list[Constant]
    biases: list[Constant]


def from_onnx(candidate: Candidate) -> Integers:
    model = onnx.load(exported(OnnxExporter(), candidate).path)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = Integers(set(), [], [])
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.dtype == np.float32
            assert zero.dtype == np.uint8
            found.grids.add((np.float32(scale), int(zero)))
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            array, scale = constants[node.input[0]], np.atleast_1d(constants[node.input[1]])
            assert not np.any(constants[node.input[2]]) if len(node.input) > 2 else True
            held = found.weights if array.dtype == np.int8 else found.biases
            held.append(Constant(array, np.broadcast_to(scale, array.shape[:1])))
    return found


def from_tflite(candidate: Candidate) -> Integers:
    interpreter = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="the extra 'litert' is not installed"
    )
    try:
        content = exported(TFLiteExporter(), candidate).path.read_bytes()
    except MissingExtraError as error:
        pytest.skip(str(error))
    engine = interpreter.Interpreter(
        model_content=content,
        experimental_op_resolver_type=(
            interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    engine.allocate_tensors()
    operators = engine._get_ops_details()
    computed = {int(i) for op in operators for i in op["outputs"]}
    computed |= {int(detail["index"]) for detail in engine.get_input_details()}
    depthwise = {int(op["inputs"][1]) for op in operators if op["op_name"] == "DEPTHWISE_CONV_2D"}
    found = Integers(set(), [], [])
    for detail in engine.get_tensor_details():
        index, quantization = int(detail["index"]), detail["quantization_parameters"]
        scales, zeros = quantization["scales"], quantization["zero_points"]
        if index in computed and len(scales):
            assert detail["dtype"] is np.int8
            assert len(scales) == 1
            found.grids.add((np.float32(scales[0]), int(zeros[0]) + 128))
        elif len(scales):
            assert not zeros.any()
            array = engine.get_tensor(index)
            if array.ndim == 4:  # OHWI, a depthwise one 1HWO
                array = array.transpose((3, 0, 1, 2) if index in depthwise else (0, 3, 1, 2))
            held = found.weights if array.dtype == np.int8 else found.biases
            held.append(Constant(array, np.broadcast_to(scales, array.shape[:1])))
    return found


@functools.cache
def both(spec: Spec) -> tuple[Integers, Integers]:
    candidate = quantized(spec)
    return from_onnx(candidate), from_tflite(candidate)


def paired(one: list[Constant], two: list[Constant]) -> list[tuple[Constant, Constant]]:
    """Each constant of one file with that of the other which has exactly its scales."""
    by_scale = {c.scale.tobytes(): c for c in two}
    assert len(by_scale) == len(two), "two constants have the same scales"
    assert {c.scale.tobytes() for c in one} == set(by_scale), "the scales differ"
    return [(c, by_scale[c.scale.tobytes()]) for c in one]


@pytest.mark.parametrize("spec", SPECS)
def test_both_files_have_the_same_activation_grids(spec: Spec) -> None:
    in_onnx, in_tflite = both(spec)
    assert in_onnx.grids == in_tflite.grids
    own = {(np.float32(g.scale), g.zero_point) for g in quantized(spec).activations.values()}
    assert in_onnx.grids == own
    assert len(own) > 5


@pytest.mark.parametrize("spec", SPECS)
def test_both_files_have_the_same_weights_to_the_last_bit(spec: Spec) -> None:
    in_onnx, in_tflite = both(spec)
    layers = quantized(spec).network.layers()
    assert len(in_onnx.weights) == len(in_tflite.weights) == len(layers)
    for one, two in paired(in_onnx.weights, in_tflite.weights):
        assert one.integers.dtype == two.integers.dtype == np.int8
        wide = two.integers.reshape(one.integers.shape)  # a linear layer may be 1 x 1 there
        np.testing.assert_array_equal(one.integers, wide)
        assert len(np.unique(one.integers)) > 10


@pytest.mark.parametrize("spec", SPECS)
def test_both_files_have_the_same_int32_biases(spec: Spec) -> None:
    in_onnx, in_tflite = both(spec)
    assert len(in_onnx.biases) == len(in_tflite.biases) == len(quantized(spec).network.layers())
    for one, two in paired(in_onnx.biases, in_tflite.biases):
        assert one.integers.dtype == two.integers.dtype == np.int32
        np.testing.assert_array_equal(one.integers, two.integers)
        assert one.integers.any()


@pytest.mark.parametrize("spec", SPECS)
def test_folding_keeps_masks_and_clusters(spec: Spec) -> None:
    """Spike 3, after training inside both, as a user would do it."""
    base, task = trained(spec)
    encoded = PruneMagnitude(0.6, exclude=("fc",))(base, task).candidate
    encoded = ShareWeights(4, exclude=("fc", "stem.0"))(encoded, task).candidate
    encoded = FineTune(1, 1e-3)(encoded, task).candidate
    kinds = {type(e) for e in encoded.encodings.values()}
    assert kinds == {Masked, Encoded}
    folded = FoldBatchNorm()(encoded, task).candidate
    folded.check()
    assert folded.edits
    assert set(folded.encodings) == set(encoded.encodings)
    before, after = encoded.network.parameters(), folded.network.parameters()
    for name, old in encoded.encodings.items():
        new = folded.encodings[name]
        np.testing.assert_array_equal(new.zeros(), old.zeros())
        np.testing.assert_array_equal(after[name] == 0, before[name] == 0)
        if isinstance(old, Encoded):
            assert isinstance(new, Encoded)
            np.testing.assert_array_equal(new.indices, old.indices)
            np.testing.assert_array_equal(new.codebook, old.codebook)
    pictures = digits()["validation"].images[:64]
    np.testing.assert_allclose(folded.predict(pictures), encoded.predict(pictures), atol=1e-3)
