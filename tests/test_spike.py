"""The spikes on which the design rests, kept as tests; the second is compress/test_constrained.

1. One set of grids lands in both formats: each file is read with its own format's reader, and no
   code of the exporters is used to compare them.
3. A candidate with encodings folds batch norm without losing masks or clusters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from compress.encoding import Encoded, Masked
from compress.spec import ModelSpec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.share_weights import ShareWeights
from tests.digits import digits, trained
from tests.integers import Constant, Integers, from_onnx, from_tflite
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.onnx_files import quantized

Spec = Callable[[], ModelSpec]
# A residual add; a concatenation and a channel split.
SPECS = [digits_residual_spec, digits_branch_spec]


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
