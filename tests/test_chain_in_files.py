"""Prune -> fine-tune -> share -> int8: zeros and clusters of every written file, bit by bit.

The files are read with their formats' own readers. The candidate itself is tested in
compress/stages/test_chain.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import MissingExtraError
from compress.spec import ModelSpec
from compress.stage import run
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from targets.formats.deep_compression import DeepCompressionExporter, load
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from tests.digits import trained
from tests.exports import exported
from tests.integers import Integers, from_onnx, from_tflite
from tests.nets import digits_branch_spec, digits_residual_spec

Spec = Callable[[], ModelSpec]
SPECS = [digits_residual_spec, digits_branch_spec]
SPARSITY, BITS = 0.6, 4
SHARE = (PruneMagnitude(SPARSITY), FineTune(1, 0.02), ShareWeights(BITS), FoldBatchNorm())


@functools.cache
def shared(spec: Spec) -> Candidate:
    base, task = trained(spec)
    return run(base, SHARE, task)


@functools.cache
def int8(spec: Spec) -> Candidate:
    return run(shared(spec), (QuantizeInt8(),), trained(spec).task)


def codes_of(candidate: Candidate) -> dict[str, NDArray[Any]]:
    """The cluster of each weight, 0 = pruned."""
    encodings = candidate.encodings.items()
    return {name: e.indices for name, e in encodings if isinstance(e, Encoded)}


def check_clusters(weight: NDArray[Any], codes: NDArray[Any]) -> None:
    """`weight`, scales taken off: zero where pruned, one value a cluster, as many as clusters."""
    assert (weight[codes == 0] == 0).all()
    assert np.count_nonzero(codes == 0) >= int(SPARSITY * codes.size)
    for code in np.unique(codes):
        assert np.unique(weight[codes == code]).size == 1
    assert np.unique(weight).size <= 1 << BITS


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("read", [from_onnx, from_tflite])
def test_int8_files(spec: Spec, read: Callable[[Candidate], Integers]) -> None:
    candidate = int8(spec)
    codes, own = codes_of(shared(spec)), codes_of(candidate)
    assert codes.keys() == own.keys()
    held = [constant.integers for constant in read(candidate).weights]
    for name, expected in codes.items():
        np.testing.assert_array_equal(own[name], expected)  # the very clusters of the sharing
        encoding = candidate.encodings[name]
        assert isinstance(encoding, Encoded)
        # TFLite has no negative scales: there such a channel's integers are turned over.
        forms = (encoding.integers().ravel(), encoding.runtime_form()[0].ravel())
        same = [w for w in held if any(np.array_equal(w.ravel(), form) for form in forms)]
        assert same, f"no weight of the file is {name}"
        weight = same[0].reshape(expected.shape)
        assert (weight[expected == 0] == 0).all()
        check_clusters(np.abs(weight.astype(np.int64)), signless(encoding))


def signless(encoding: Encoded) -> NDArray[Any]:
    """Clusters up to sign, so that a channel turned over counts as what it was."""
    magnitude = np.abs(encoding.codebook.astype(np.int64))
    return np.unique(magnitude, return_inverse=True)[1].reshape(-1)[encoding.indices]


@pytest.mark.parametrize("spec", SPECS)
def test_float_onnx(spec: Spec) -> None:
    candidate = shared(spec)
    model = onnx.load(exported(OnnxExporter(), candidate).path)
    check_floats(candidate, [numpy_helper.to_array(t) for t in model.graph.initializer])


@pytest.mark.parametrize("spec", SPECS)
def test_float_tflite(spec: Spec) -> None:
    interpreter = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="the extra 'litert' is not installed"
    )
    try:
        path = exported(TFLiteExporter(), shared(spec)).path
    except MissingExtraError as error:
        pytest.skip(str(error))
    engine = interpreter.Interpreter(model_path=str(path))
    engine.allocate_tensors()
    constants: list[NDArray[Any]] = []
    for op in engine._get_ops_details():
        if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            array = engine.get_tensor(int(op["inputs"][1]))
            if array.ndim == 4:
                axes = (3, 0, 1, 2) if op["op_name"].startswith("D") else (0, 3, 1, 2)
                array = array.transpose(axes)
            constants.append(array)
    check_floats(shared(spec), constants)


def check_floats(candidate: Candidate, constants: list[NDArray[Any]]) -> None:
    """Each encoded weight stands in the file to the last bit."""
    parameters: Mapping[str, NDArray[np.float32]] = candidate.network.parameters()
    for name, codes in codes_of(candidate).items():
        wanted = parameters[name].ravel()
        same = [c for c in constants if np.array_equal(c.ravel(), wanted)]
        assert same, f"no weight of the file is {name}"
        encoding = candidate.encodings[name]
        assert isinstance(encoding, Encoded)
        assert (same[0].ravel()[codes.ravel() == 0] == 0).all()
        rebuilt = encoding.codebook[codes] * encoding.broadcast_scale() + np.float32(0)
        np.testing.assert_array_equal(same[0].ravel(), rebuilt.ravel())
        check_clusters(encoding.codebook[codes], codes)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("stage", [shared, int8])
def test_container(spec: Spec, stage: Callable[[Spec], Candidate]) -> None:
    candidate = stage(spec)
    held = load(exported(DeepCompressionExporter(), candidate).path, candidate.spec)
    assert held.digest() == candidate.digest()
    codes = codes_of(held)
    assert codes.keys() == candidate.encodings.keys()
    for name, expected in codes_of(shared(spec)).items():
        np.testing.assert_array_equal(codes[name], expected)
