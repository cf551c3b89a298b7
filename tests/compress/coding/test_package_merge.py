from __future__ import annotations

import heapq
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding.package_merge import code_lengths, forest_depths
from compress.errors import RangeError


def lengths_of(counts: list[int], limit: int = 15) -> list[int]:
    return code_lengths(np.array(counts, np.int64), limit).tolist()


def huffman_cost(counts: list[int]) -> int:
    """Bits of an unlimited Huffman code: the sum of its inner nodes."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        cost += node
        heapq.heappush(heap, node)
    return cost


@pytest.mark.parametrize(
    ("counts", "limit", "lengths"),
    [
        ([], 15, []),
        ([0, 0], 15, [0, 0]),
        ([0, 7, 0], 15, [0, 1, 0]),
        ([1, 1], 15, [1, 1]),
        ([4, 2, 1, 1], 15, [1, 2, 3, 3]),
        ([1, 1, 2, 4], 15, [3, 3, 2, 1]),
        ([1, 1, 1], 15, [1, 2, 2]),  # of equals the smallest symbol has the shortest word
        ([1, 1, 2, 2], 15, [2, 2, 2, 2]),  # not 3 3 2 1, which costs the same
        ([8, 4, 2, 1, 1], 15, [1, 2, 3, 4, 4]),
        ([8, 4, 2, 1, 1], 3, [1, 3, 3, 3, 3]),
        ([1, 0, 1, 1, 0, 1], 2, [2, 0, 2, 2, 0, 2]),
    ],
)
def test_known_lengths(counts: list[int], limit: int, lengths: list[int]) -> None:
    assert lengths_of(counts, limit) == lengths


def test_fibonacci_counts_meet_the_limit() -> None:
    counts = [1, 1]
    while len(counts) < 40:
        counts.append(counts[-1] + counts[-2])
    for limit in (6, 12, 15):
        lengths = lengths_of(counts, limit)
        assert max(lengths) == limit
        assert sum(Fraction(1, 2**length) for length in lengths) == 1


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=200))
def test_optimal_where_the_limit_does_not_bind(counts: list[int]) -> None:
    lengths = lengths_of(counts)
    if sum(1 for count in counts if count) < 2:
        return
    assert sum(Fraction(1, 2**length) for length in lengths if length) == 1
    cost = sum(c * n for c, n in zip(counts, lengths, strict=True))
    # Depth 15 needs counts that grow like Fibonacci numbers, which sum to over 1597 * 1000.
    assert cost == huffman_cost(counts) or max(lengths) == 15
    assert all((count > 0) == (length > 0) for count, length in zip(counts, lengths, strict=True))


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.integers(3, 4))
def test_optimal_under_a_limit(counts: list[int], limit: int) -> None:
    cost = sum(c * n for c, n in zip(counts, lengths_of(counts, limit), strict=True))
    best = min(
        sum(c * n for c, n in zip(counts, choice, strict=True))
        for choice in product(range(1, limit + 1), repeat=len(counts))
        if sum(1 << (limit - n) for n in choice) <= 1 << limit
    )
    assert cost == best


@given(st.lists(st.integers(1, 9), min_size=2, max_size=100))
def test_more_frequent_never_longer_and_ties_by_symbol(counts: list[int]) -> None:
    lengths = lengths_of(counts)
    ranked = sorted(range(len(counts)), key=lambda symbol: (-counts[symbol], symbol))
    in_order = [lengths[symbol] for symbol in ranked]
    assert in_order == sorted(in_order)


def test_full_alphabet() -> None:
    assert set(lengths_of([1] * 32768)) == {15}


@pytest.mark.parametrize(
    ("counts", "limit"),
    [([1] * 5, 2), ([1] * 32769, 15), ([1, -1], 15), ([1, 1], 0), ([1, 1], 16), ([1 << 58, 1], 15)],
)
def test_refuses(counts: list[int], limit: int) -> None:
    with pytest.raises(RangeError):
        lengths_of(counts, limit)


def depths_of(counts: list[int], roots: int, most: int) -> list[int]:
    return forest_depths(np.array(counts, np.int64), roots, most).tolist()


@pytest.mark.parametrize(
    ("counts", "roots", "most", "depths"),
    [
        ([], 2, 3, []),
        ([7], 2, 0, [0]),
        ([5, 1], 2, 3, [0, 0]),
        ([5, 1, 1], 2, 3, [0, 1, 1]),
        ([1, 1, 1], 2, 3, [0, 1, 1]),  # of equals the first has the shortest word
        ([8, 4, 2, 1, 1], 2, 3, [0, 1, 2, 3, 3]),
        ([8, 4, 2, 1, 1], 2, 2, [0, 2, 2, 2, 2]),
        ([8, 4, 2, 1, 1], 4, 1, [0, 0, 0, 1, 1]),
    ],
)
def test_known_depths(counts: list[int], roots: int, most: int, depths: list[int]) -> None:
    assert depths_of(counts, roots, most) == depths


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
)
def test_no_forest_is_cheaper(counts: list[int], roots: int, most: int) -> None:
    if len(counts) > roots << most:
        return
    depths = depths_of(counts, roots, most)
    assert max(depths) <= most
    cost = sum(c * n for c, n in zip(counts, depths, strict=True))
    best = min(
        sum(c * n for c, n in zip(counts, choice, strict=True))
        for choice in product(range(most + 1), repeat=len(counts))
        if sum(1 << (most - n) for n in choice) <= roots << most
    )
    assert cost == best
    assert sum(1 << (most - n) for n in depths) <= roots << most


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=200), st.integers(8, 15), st.integers(0, 4)
)
def test_one_tree_is_a_code_and_more_fill_their_roots(
    counts: list[int], most: int, first: int
) -> None:
    assert depths_of(counts, 1, most) == lengths_of(counts, most)
    depths = depths_of(counts, 1 << first, most)
    room = sum(Fraction(1, 2**depth) for depth in depths)
    assert room == min(len(counts), 1 << first)


@pytest.mark.parametrize(("symbols", "roots", "most"), [(3, 2, 0), (9, 2, 2), (257, 16, 4)])
def test_refuses_more_symbols_than_a_forest_has_leaves(symbols: int, roots: int, most: int) -> None:
    allowed = roots << most
    assert depths_of([1] * allowed, roots, most) == [most] * allowed
    with pytest.raises(RangeError, match=f"{symbols} symbols in {roots} trees of at most {most} "):
        depths_of([1] * symbols, roots, most)
