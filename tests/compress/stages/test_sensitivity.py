"""The scan of sensitivities, and the sparsities that follow from one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import RangeError, TaskError
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.sensitivity import Curve, Sensitivity, scan
from tests.digits import Trained

HALF = Sensitivity(
    "top1",
    0.9,
    (
        Curve("a", 100, (0.5, 0.9), (0.9, 0.8)),
        Curve("b", 300, (0.5, 0.9), (0.7, 0.1)),
    ),
)


def total(found: Sensitivity, pairs: tuple[tuple[str, float], ...]) -> float:
    weights = {c.layer: c.weights for c in found.curves}
    return sum(weights[layer] * s for layer, s in pairs) / sum(weights.values())


def test_each_layer_is_pruned_alone_and_measured(trained_net: Trained) -> None:
    candidate, task = trained_net
    found = scan(candidate, task, (0.9, 0.5), include=("conv1", "fc"))
    assert found.whole == task.evaluate(candidate.predict)["top1"]
    assert [c.layer for c in found.curves] == ["conv1", "fc"]
    for curve in found.curves:
        assert curve.sparsities == (0.5, 0.9)
        for sparsity, value in zip(curve.sparsities, curve.values, strict=True):
            alone = PruneMagnitude(sparsity, include=(curve.layer,))(candidate, task).candidate
            assert value == task.evaluate(alone.predict)["top1"]
    assert found.curves[0].weights == candidate.network.parameters()["conv1.weight"].size


def test_a_drop_gives_what_each_layer_bears_alone() -> None:
    assert HALF.for_drop(0.0) == (("a", 0.5), ("b", 0.0))
    # a falls by 0.1 over 0.4 of sparsity, b by 0.2 over 0.5.
    assert HALF.for_drop(0.05) == (("a", 0.7), ("b", 0.125))
    assert HALF.for_drop(1.0) == (("a", 0.9), ("b", 0.9))


def test_a_curve_that_falls_and_rises_ends_where_it_falls() -> None:
    noisy = Sensitivity("top1", 0.9, (Curve("a", 10, (0.5, 0.7, 0.9), (0.9, 0.5, 0.9)),))
    assert noisy.for_drop(0.0) == (("a", 0.5),)


@given(st.floats(0, 0.9))
def test_a_total_is_met_at_equal_losses(sparsity: float) -> None:
    pairs = HALF.for_total(sparsity)
    assert total(HALF, pairs) == pytest.approx(sparsity, abs=2e-4)
    given_to = dict(pairs)
    assert all(0 <= s <= 0.9 for s in given_to.values())
    assert given_to["a"] >= given_to["b"]  # b is the one that loses more


def test_what_costs_nothing_is_lowered_alike() -> None:
    free = Sensitivity(
        "top1", 0.9, (Curve("a", 100, (0.8,), (0.9,)), Curve("b", 100, (0.4,), (0.95,)))
    )
    assert free.for_total(0.3) == (("a", 0.4), ("b", 0.2))
    assert free.for_total(0.0) == (("a", 0.0), ("b", 0.0))


def test_pairs_prune_a_net_to_the_total(trained_net: Trained) -> None:
    candidate, task = trained_net
    pairs = scan(candidate, task, (0.5, 0.9)).for_total(0.8)
    own = PruneMagnitude(pairs)(candidate, task).candidate.network.parameters()
    weights = [own[layer.weight] for layer in candidate.network.layers()]
    zeros = sum(int((w == 0).sum()) for w in weights)
    assert zeros / sum(w.size for w in weights) == pytest.approx(0.8, abs=0.003)


@pytest.mark.parametrize("sparsities", [(), (0.0,), (1.0,), (math.nan,), (-0.5, 0.5)])
def test_bad_sparsities_are_one_line(trained_net: Trained, sparsities: tuple[float, ...]) -> None:
    with pytest.raises(RangeError, match=r"^scan\(sparsities=") as caught:
        scan(*trained_net, sparsities)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("drop", [-0.1, math.nan, math.inf])
def test_a_bad_drop_is_one_line(drop: float) -> None:
    with pytest.raises(RangeError, match=r"for_drop.*top1 from 0"):
        HALF.for_drop(drop)


@pytest.mark.parametrize("sparsity", [0.91, 1.0, -0.1, math.nan])
def test_a_total_that_was_not_measured_is_refused(sparsity: float) -> None:
    with pytest.raises(RangeError, match=r"measured allow 0 to 0\.9; scan with larger ones"):
        HALF.for_total(sparsity)


def test_a_metric_that_is_not_given_is_said(trained_net: Trained) -> None:
    candidate, task = trained_net
    with pytest.raises(TaskError, match=r"scan\(metric='agreement'\): task\.evaluate gives top1"):
        scan(candidate, task, (0.5,), metric="agreement")
    lost = replace(task, evaluate=lambda _predict: {"top1": math.nan})
    with pytest.raises(TaskError, match="nan"):
        scan(candidate, lost, (0.5,))
