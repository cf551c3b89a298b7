"""Equation 11 and what follows from it, on matrices."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compress.equalization import Sides, equalizing


def chain(sizes: list[int], seed: int) -> tuple[list[Sides], int]:
    """Dense layers one after another, ranges of channels wide apart; numbers of the groups."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum([0, *sizes])
    groups = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    layers = [
        Sides(np.exp(rng.normal(size=(1, len(after), len(before))) * 2), after, before)
        for before, after in itertools.pairwise(groups)
    ]
    return layers, int(ends[-1])


def inner(layers: list[Sides], count: int) -> np.ndarray:
    free = np.ones(count, np.bool_)
    free[layers[0].reads] = free[layers[-1].writes] = False
    return free


@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=3), seed=st.integers(0, 999))
def test_one_pair_has_equation_11_and_equal_ranges_after_it(sizes: list[int], seed: int) -> None:
    (one, two), count = chain(sizes, seed)
    scale = equalizing([one, two], inner([one, two], count), np.full(count, 1e-30))
    above, below = one.largest[0].max(1), two.largest[0].max(0)
    np.testing.assert_allclose(scale[one.writes], np.sqrt(above / below), rtol=2e-3)
    after = above / scale[one.writes], below * scale[two.reads]
    np.testing.assert_allclose(*after, rtol=4e-3)


@given(sizes=st.lists(st.integers(1, 6), min_size=4, max_size=7), seed=st.integers(0, 999))
def test_a_chain_converges_to_equal_ranges(sizes: list[int], seed: int) -> None:
    layers, count = chain(sizes, seed)
    scale = equalizing(layers, inner(layers, count), np.full(count, 1e-30))
    for one, two in itertools.pairwise(layers):
        above = one.rows(scale) / scale[one.writes]
        below = two.columns(scale[two.writes]) * scale[two.reads]
        np.testing.assert_allclose(above, below, rtol=2e-2)


@given(seed=st.integers(0, 999))
def test_depthwise_in_the_middle(seed: int) -> None:
    """Pointwise, depthwise, pointwise: each kernel of the middle reads one channel, writes one."""
    rng = np.random.default_rng(seed)
    a, b = np.arange(2, 7), np.arange(7, 12)
    layers = [
        Sides(np.exp(rng.normal(size=(1, 5, 2)) * 2), a, np.arange(2)),
        Sides(np.exp(rng.normal(size=(5, 1, 1)) * 2), b, a),
        Sides(np.exp(rng.normal(size=(1, 3, 5)) * 2), np.arange(12, 15), b),
    ]
    scale = equalizing(layers, inner(layers, 15), np.full(15, 1e-30))
    r1 = layers[0].largest[0].max(1) / scale[a]
    r2 = layers[1].largest[:, 0, 0] * scale[a] / scale[b]
    r3 = layers[2].largest[0].max(0) * scale[b]
    np.testing.assert_allclose(r1, r2, rtol=1e-2)
    np.testing.assert_allclose(r2, r3, rtol=1e-2)


def test_fixed_groups_dead_channels_and_floors() -> None:
    (one, two), count = chain([2, 4, 3], 3)
    one.largest[0, 1] = 0  # written as zero
    two.largest[0, :, 2] = 0  # read by nothing
    free = inner([one, two], count)
    free[one.writes[0]] = False
    floors = np.full(count, 1e-30)
    floors[one.writes[3]] = 1000.0
    scale = equalizing([one, two], free, floors)
    assert scale[one.writes].tolist() == [1, 1, 1, 1000]
    one.largest[0, 1] = 1e-20  # its bias alone: divided by sqrt(1e-20), that would be huge
    assert equalizing([one, two], free, floors)[one.writes[1]] == 1


def test_ranges_of_activations_against_weights_by_their_own_row() -> None:
    """Rows of very different size count alike: each has its own scale."""
    weights = np.array([[[1.0, 0.5], [2000.0, 3000.0]]])
    layer = Sides(weights, np.array([2, 3]), np.array([0, 1]))
    free = np.array([True, True, False, False])
    ranges = np.array([4.0, 9.0, 1.0, 1.0])
    scale = equalizing([layer], free, np.full(4, 1e-30), ranges)
    rows = (weights[0] * scale[:2]).max(1, keepdims=True)
    below = (weights[0] * scale[:2] / rows).max(0)
    np.testing.assert_allclose(ranges[:2] / scale[:2], below, rtol=1e-2)
