"""Against the textbook: the inverse of the whole, solved anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.pruning.elimination import Elimination, about_mean, block_diagonal, shrunk


def layer(seed: int, rows: int = 5, count: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, inputs A and outputs G."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(40, count)) @ rng.normal(size=(count, count))
    pulls = rng.normal(size=(30, rows)) @ rng.normal(size=(rows, rows))
    return rng.normal(size=(rows, count)), seen.T @ seen, pulls.T @ pulls


def best_rest(weight: np.ndarray, inputs: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The weight with zeros outside `kept` of the least error."""
    found = np.zeros_like(weight)
    square = inputs[np.ix_(kept, kept)]
    found[:, kept] = np.linalg.solve(square, inputs[kept] @ weight.T).T
    return found


def loss(weight: np.ndarray, other: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> float:
    error = weight - other
    return float(np.trace(outputs @ error @ inputs @ error.T)) / 2


@given(st.integers(0, 10_000), st.lists(st.integers(0, 7), unique=True, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_inputs_taken_one_by_one_leave_the_best_rest(seed: int, order: list[int]) -> None:
    weight, inputs, outputs = layer(seed)
    state = Elimination(weight, inputs, outputs, 0.0)
    total = 0.0
    for gone in order:
        total += state.losses(np.array([[gone]]))[0]
        state.drop_inputs(np.array([gone]))
    kept = np.setdiff1d(np.arange(8), order)
    wanted = best_rest(weight, inputs, kept)
    np.testing.assert_allclose(state.weight, wanted, atol=1e-5)
    assert total == pytest.approx(loss(weight, wanted, inputs, outputs), rel=1e-5)


def test_several_inputs_of_a_channel_go_together() -> None:
    weight, inputs, outputs = layer(3)
    state = Elimination(weight, inputs, outputs, 0.0)
    blocks = np.arange(8).reshape(4, 2)
    each = state.losses(blocks)
    for number, block in enumerate(blocks):
        rest = best_rest(weight, inputs, np.setdiff1d(np.arange(8), block))
        assert each[number] == pytest.approx(loss(weight, rest, inputs, outputs), rel=1e-6)


def test_what_is_gone_costs_nothing_and_again_changes_nothing() -> None:
    weight, inputs, outputs = layer(4)
    state = Elimination(weight, inputs, outputs, 1e-3)
    state.drop_inputs(np.array([2, 3]))
    before = state.weight.copy()
    state.drop_inputs(np.array([2, 3]))
    np.testing.assert_array_equal(state.weight, before)
    assert state.losses(np.array([[2, 3]]))[0] == 0
    assert state.losses(np.array([[2], [1]]))[0] == 0
    assert state.losses(np.array([[2, 1]]))[0] == pytest.approx(state.losses(np.array([[1]]))[0])


def test_outputs_that_go_matter_no_more() -> None:
    weight, inputs, outputs = layer(5)
    state = Elimination(weight, inputs, outputs, 0.0)
    state.drop_outputs(np.array([1, 4]))
    left = [0, 2, 3]
    alone = Elimination(weight[left], inputs, outputs[np.ix_(left, left)], 0.0)
    every = np.arange(8)[:, None]
    np.testing.assert_allclose(state.losses(every), alone.losses(every), rtol=1e-9)
    state.drop_outputs(np.array([1, 4]))
    np.testing.assert_allclose(state.losses(every), alone.losses(every), rtol=1e-9)


def test_an_input_that_others_repeat_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(50, 3))
    seen = np.concatenate((seen, seen[:, :1] * 2 + 1), axis=1)  # the mean is the bias's to take
    moments = (seen.T @ seen / 50)[None]
    inputs = about_mean(moments, seen.mean(0)[None], 1.0)[0]
    state = Elimination(rng.normal(size=(4, 4)), inputs, np.eye(4), 1e-9)
    each = state.losses(np.arange(4)[:, None])
    assert each[3] < 1e-6 * each[1]
    assert each[0] < 1e-6 * each[1]


def test_a_layer_that_saw_nothing_loses_nothing() -> None:
    state = Elimination(np.ones((2, 3)), np.zeros((3, 3)), np.zeros((2, 2)), 0.01)
    np.testing.assert_array_equal(state.losses(np.arange(3)[:, None]), np.zeros(3))


def test_groups_lie_along_the_diagonal() -> None:
    groups = np.arange(12.0).reshape(2, 2, 3)
    whole = block_diagonal(groups)
    np.testing.assert_array_equal(whole[:2, :3], groups[0])
    np.testing.assert_array_equal(whole[2:, 3:], groups[1])
    assert np.count_nonzero(whole) == np.count_nonzero(groups)


def test_few_samples_leave_the_diagonal() -> None:
    inputs = layer(6)[1][None]
    np.testing.assert_allclose(shrunk(inputs, 1e9), inputs, rtol=1e-6)
    few = shrunk(inputs, 1.0)[0]
    np.testing.assert_array_equal(np.diagonal(few), np.diagonal(inputs[0]))
    assert np.abs(few - np.diag(np.diagonal(few))).max() < np.abs(inputs).max() / 4
