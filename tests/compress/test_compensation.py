"""compensation: the factors are of the matrix, nothing is lost without rounding, less with it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.compensation import as_groups, compensated, factorize, output_error

Floats = NDArray[np.float64]
STEP = 0.25


def correlated(groups: int, count: int, seed: int = 0) -> Floats:
    """Second moments of inputs that depend on each other, of very different sizes."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(groups, count, count)) * np.geomspace(0.1, 3, count)
    return mixing @ np.swapaxes(mixing, 1, 2)


def to_steps(wanted: Floats, importance: Floats, column: NDArray[np.intp]) -> Floats:
    del importance, column
    return np.rint(wanted / STEP) * STEP


@pytest.mark.parametrize(("groups", "count"), [(1, 1), (1, 9), (4, 6)])
def test_the_factors_give_back_the_damped_matrix(groups: int, count: int) -> None:
    inputs = correlated(groups, count)
    factors = factorize(inputs, 0.01)
    assert (factors.scales > 0).all()
    for g in range(groups):
        order = factors.order[g]
        assert sorted(order) == list(range(count))
        unit = np.eye(count) + factors.below[g]
        assert np.array_equal(unit, np.tril(unit))
        damped = inputs[g] + np.eye(count) * 0.01 * np.trace(inputs[g]) / count
        found = unit.T @ np.diag(factors.scales[g]) @ unit
        np.testing.assert_allclose(found, damped[np.ix_(order, order)], rtol=1e-9)


def test_the_order_makes_the_scales_small() -> None:
    """The product of the scales is the determinant in any order; their sum is not."""
    inputs = correlated(1, 5)
    sums = []
    for order in itertools.permutations(range(5)):
        turned = inputs[0][np.ix_(order, order)][::-1, ::-1]
        sums.append((np.diag(np.linalg.cholesky(turned)) ** 2).sum())
    ours = factorize(inputs, 0.0).scales.sum()
    assert ours <= np.quantile(sums, 0.1)


def test_without_rounding_nothing_is_lost() -> None:
    weight = np.random.default_rng(1).normal(size=(2, 3, 7))
    kept = compensated(weight, factorize(correlated(2, 7), 0.01), np.ones((2, 3)), lambda w, *_: w)
    np.testing.assert_allclose(kept, weight, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_errors_made_good_cost_less_than_rounding(seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(2, 8, 12))
    inputs, outputs = correlated(2, 12, seed), np.ones((2, 8))
    ours = compensated(weight, factorize(inputs, 0.01), outputs, to_steps)
    assert np.array_equal(np.rint(ours / STEP) * STEP, ours)
    plain = np.rint(weight / STEP) * STEP
    error = output_error(ours - weight, inputs, outputs)
    assert error < 0.7 * output_error(plain - weight, inputs, outputs)


def test_of_independent_inputs_it_is_rounding() -> None:
    weight = np.random.default_rng(2).normal(size=(1, 4, 6))
    factors = factorize(np.eye(6)[None] * 2.0, 0.0)
    ours = compensated(weight, factors, np.ones((1, 4)), to_steps)
    assert np.array_equal(ours, np.rint(weight / STEP) * STEP)


def test_inputs_that_were_never_seen_have_factors_too() -> None:
    factors = factorize(np.zeros((2, 3, 3)), 0.01)
    assert np.isfinite(factors.scales).all()
    assert (factors.scales > 0).all()


def test_the_output_error_is_that_of_the_outputs() -> None:
    rng = np.random.default_rng(3)
    seen, error = rng.normal(size=(2, 50, 5)), rng.normal(size=(2, 3, 5))
    inputs = np.swapaxes(seen, 1, 2) @ seen
    outputs = rng.random((2, 3))
    own = np.square(seen @ np.swapaxes(error, 1, 2)).sum(axis=1)
    assert output_error(error, inputs, outputs) == pytest.approx(float((own * outputs).sum()))


def test_a_grouped_weight_is_parted_by_outputs() -> None:
    weight = np.arange(4 * 2 * 3 * 3, dtype=np.float32).reshape(4, 2, 3, 3)
    found = as_groups(weight, 2)
    assert found.shape == (2, 2, 18)
    assert np.array_equal(found[1, 0], weight[2].reshape(-1))
