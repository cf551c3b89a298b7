"""AdaRound: up or down, nearer the float net than nearest rounding, and what is fixed stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.constrained import is_full_grid
from compress.encoding import Encoded
from compress.errors import StageOrderError, TaskError
from compress.simulate import int32_bias
from compress.stages.adaround import AdaRound
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from tests.digits import Trained, digits

PICTURES = digits()["validation"].images


@pytest.fixture(scope="module")
def folded(trained_net: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_net).candidate, trained_net.task)


@pytest.fixture(scope="module")
def rounded(folded: Trained) -> Candidate:
    return AdaRound(4)(*folded).candidate


def encoded(candidate: Candidate, name: str) -> Encoded:
    found = candidate.encodings[name]
    assert isinstance(found, Encoded)
    return found


def moved(candidate: Candidate, reference: Candidate) -> float:
    """Mean squared distance of the answers."""
    return float(np.square(candidate.predict(PICTURES) - reference.predict(PICTURES)).mean())


def test_each_weight_is_floor_or_ceil_of_what_it_was(folded: Trained, rounded: Candidate) -> None:
    rounded.check()
    own = folded.candidate.network.parameters()
    other = 0
    for layer in folded.candidate.network.layers():
        code = encoded(rounded, layer.weight)
        assert is_full_grid(code)
        assert (code.bits, code.axis) == (4, 0)
        ratio = own[layer.weight] / code.broadcast_scale()
        inside = np.abs(ratio) < 7
        steps = code.integers() - ratio
        assert (np.abs(steps[inside]) < 1).all()
        assert (np.abs(code.integers()[~inside].astype(int)) == 7).all()
        other += int((np.abs(steps[inside]) > 0.5).sum())
    assert other > 20


@pytest.mark.parametrize("net", ["trained_residual", "trained_branch", "trained_plain"])
def test_the_answers_stay_nearer_than_with_nearest(
    net: str, request: pytest.FixtureRequest
) -> None:
    candidate, task = request.getfixturevalue(net)
    start = FoldBatchNorm()(candidate, task).candidate
    nearest = QuantizeInt8(weight_bits=4)(start, task).candidate
    result = AdaRound(4)(start, task)
    assert result.touched == tuple(layer.name for layer in start.network.layers())
    done = QuantizeInt8()(result.candidate, task).candidate
    assert done.encodings == result.candidate.encodings
    assert moved(done, start) < 0.8 * moved(nearest, start)


def test_eight_bits_stay_nearer_too(folded: Trained) -> None:
    nearest = QuantizeInt8()(*folded).candidate
    own = folded.candidate
    plain = own.with_values({}, nearest.encodings)
    assert moved(AdaRound()(*folded).candidate, own) <= moved(plain, own)


def test_fitted_biases_bring_the_answers_nearer(folded: Trained, rounded: Candidate) -> None:
    own = folded.candidate
    done = AdaRound(4, fit_bias=True)(*folded).candidate
    done.check()
    assert moved(done, own) < moved(rounded, own)
    before, after = (c.network.parameters() for c in (own, done))
    biases = [la.bias for la in own.network.layers() if la.bias is not None]
    assert all((before[name] != after[name]).any() for name in biases)
    plain = rounded.network.parameters()
    assert all((before[name] == plain[name]).all() for name in biases)


def test_pairs_and_patterns_choose_and_the_rest_has_a_reason(folded: Trained) -> None:
    names = [layer.name for layer in folded.candidate.network.layers()]
    stage = AdaRound(((names[0], 8), (names[1], 4)), steps=5, exclude=(names[2],))
    result = stage(*folded)
    assert result.touched == tuple(names[:2])
    bits = [encoded(result.candidate, f"{name}.weight").bits for name in names[:2]]
    assert bits == [8, 4]
    reasons = {skip.layer: skip.reason for skip in result.skipped}
    assert reasons[names[2]] == "left out by include and exclude"
    assert reasons[names[-1]] == "no bits are given for it"


def test_what_is_on_a_grid_or_shared_is_left_alone(folded: Trained, rounded: Candidate) -> None:
    again = AdaRound(4)(rounded, folded.task)
    assert {skip.reason for skip in again.skipped} == {"its weights are integers already"}
    assert again.candidate.digest() == rounded.digest()
    shared = ShareWeights(3)(*folded).candidate
    result = AdaRound(4)(shared, folded.task)
    assert {skip.reason for skip in result.skipped} == {"its weights are shared already"}
    assert not result.touched


def test_float_weights_that_lie_on_the_grid_stay(folded: Trained) -> None:
    grid = QuantizeInt8(weight_bits=4)(*folded).candidate
    values = {name: encoded(grid, name).decode() for name in grid.encodings}
    reach = {name: np.abs(encoded(grid, name).integers()) for name in values}
    start = folded.candidate.with_values(values, {})
    done = AdaRound(4, steps=20)(start, folded.task).candidate
    for name, integers in reach.items():
        rows = integers.reshape(len(integers), -1).max(axis=1) == 7
        assert rows.any()
        np.testing.assert_array_equal(encoded(done, name).decode()[rows], values[name][rows])


def test_pruned_weights_stay_zero(folded: Trained) -> None:
    pruned = PruneMagnitude(0.6)(*folded).candidate
    done = AdaRound(4, steps=50)(pruned, folded.task).candidate
    for layer in pruned.network.layers():
        zeros = pruned.encodings[layer.weight].zeros()
        assert zeros.any()
        assert not encoded(done, layer.weight).integers()[zeros].any()


def test_a_nearly_dead_channel_keeps_its_bias(folded: Trained) -> None:
    start, task = folded
    layer = start.network.layers()[1]
    assert layer.bias is not None
    own = start.network.parameters()
    weight, bias = own[layer.weight].copy(), own[layer.bias].copy()
    weight[0] *= 1e-12
    bias[0] = 1.5
    faint = start.with_values({layer.weight: weight, layer.bias: bias}, {})
    done = QuantizeInt8()(AdaRound(4, steps=5)(faint, task).candidate, task).candidate
    (node,) = [n for n in done.network.graph.nodes if n.parameters.get("weight") == layer.weight]
    step, scale = done.activations[node.inputs[0]].scale, encoded(done, layer.weight).scale
    kept = int32_bias(bias, step, scale) * (step * scale.astype(np.float64))
    np.testing.assert_allclose(kept[0], 1.5, rtol=1e-6)


def test_the_seed_and_the_pictures_decide(folded: Trained, rounded: Candidate) -> None:
    assert AdaRound(4)(*folded).candidate.digest() == rounded.digest()
    other = replace(folded.task, seed=1)
    assert AdaRound(4)(folded.candidate, other).candidate.digest() != rounded.digest()
    few = AdaRound(4, pictures=20)(*folded).candidate
    assert few.digest() != rounded.digest()


@pytest.mark.parametrize(
    ("batches", "words"),
    [([], "no batches"), ([np.zeros((2, 1, 5, 5), np.float32)], "shape"), ([[1]], "list")],
)
def test_calibration_that_does_not_fit_is_refused(
    folded: Trained, batches: list[Any], words: str
) -> None:
    poor = replace(folded.task, calibration=lambda: batches)
    with pytest.raises(TaskError, match=f"AdaRound.*{words}"):
        AdaRound(4)(folded.candidate, poor)


def test_pictures_that_are_no_numbers_are_said(folded: Trained) -> None:
    broken = replace(folded.task, calibration=lambda: (np.full((2, 1, 8, 8), np.nan, np.float32),))
    with pytest.raises(TaskError, match="AdaRound: calibration gives NaN or infinity in what"):
        AdaRound(steps=1)(folded.candidate, broken)


def test_batch_norms_must_be_folded(trained_net: Trained) -> None:
    with pytest.raises(StageOrderError, match="put FoldBatchNorm before AdaRound"):
        AdaRound()(*trained_net)
