"""Words of a code whose first digit has several bits, and how its tree lies in a table."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding.package_merge import forest_depths
from targets.formats.prefix_tree import FIRST_DIGITS, Integers, Tree, grown

MARK = -128


def tree_of(values: list[int], depths: list[int], first: int) -> Tree:
    return Tree(np.array(values, np.int64), np.array(depths, np.uint8), first)


def words(tree: Tree) -> list[str]:
    """Each word in bits."""
    lengths = tree.first + tree.depths.astype(int)
    return [f"{code:0{length}b}" for code, length in zip(tree.codes(), lengths, strict=True)]


@pytest.mark.parametrize(
    ("depths", "first", "expected", "levels"),
    [
        ([0], 1, ["0"], [[5, 0]]),
        ([0, 0], 1, ["0", "1"], [[5, 6]]),
        ([0, 1, 1], 1, ["0", "10", "11"], [[5, MARK], [6, 7]]),
        ([0, 0, 0], 2, ["00", "01", "10"], [[5, 6, 7, 0]]),
        (
            [0, 0, 0, 1, 2, 2],
            2,
            ["00", "01", "10", "110", "1110", "1111"],
            [[5, 6, 7, MARK], [8, MARK], [9, 10]],
        ),
        (
            [1, 1, 2, 2, 2, 2],  # no word of one digit
            1,
            ["00", "01", "100", "101", "110", "111"],
            [[MARK, MARK], [5, 6, MARK, MARK], [7, 8, 9, 10]],
        ),
        ([2] * 8, 1, [f"{n:03b}" for n in range(8)], [[MARK] * 2, [MARK] * 4, [*range(5, 13)]]),
    ],
)
def test_known_words_and_entries(
    depths: list[int], first: int, expected: list[str], levels: list[list[int]]
) -> None:
    tree = tree_of(list(range(5, 5 + len(depths))), depths, first)
    assert words(tree) == expected
    assert tree.entries(MARK) == levels


@st.composite
def alphabets(draw: st.DrawFn) -> tuple[Integers, Integers]:
    values = draw(st.lists(st.integers(-127, 127), min_size=1, max_size=255, unique=True))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    steepness = draw(st.sampled_from([0.5, 3.0, 10.0]))
    counts = np.exp(random.random(len(values)) * steepness).astype(np.int64) + 1
    return np.sort(np.array(values, np.int64)), counts


@given(alphabets(), st.sampled_from([0.0, 0.05, 4.0]), st.integers(7, 12))
def test_grown_trees_are_codes(
    alphabet: tuple[Integers, Integers], step_bits: float, most: int
) -> None:
    """Every value has one word, no word begins another, and each is where the table has it."""
    values, counts = alphabet
    tree, _ = grown(values, counts, step_bits, most)
    assert sorted(tree.values) == values.tolist()
    assert int(tree.depths.max()) <= most
    lengths = tree.first + tree.depths.astype(int)
    assert sum(Fraction(1, 2**length) for length in lengths.tolist()) <= 1
    for one, other in pairwise(sorted(words(tree))):
        assert not other.startswith(one)
    levels = tree.entries(MARK)
    for value, word in zip(tree.values, words(tree), strict=True):
        node = int(word[: tree.first], 2)
        for level, digit in zip(levels, word[tree.first :], strict=False):
            assert level[node] == MARK
            inner = [place for place, entry in enumerate(level) if entry == MARK]
            node = 2 * inner.index(node) + int(digit)
        assert levels[len(word) - tree.first][node] == value


@given(alphabets(), st.sampled_from([0.0, 0.05, 4.0]))
def test_the_cheapest_first_digit_is_taken(
    alphabet: tuple[Integers, Integers], step_bits: float
) -> None:
    values, counts = alphabet
    _, cost = grown(values, counts, step_bits, 10)
    for first in FIRST_DIGITS:
        depths = forest_depths(counts, 1 << first, 10).astype(np.int64)
        bits = int(counts @ (first + depths))
        steps = int(counts @ (1 + depths))
        assert cost <= bits + step_bits * steps + 1e-6


def test_steps_that_cost_much_make_first_digits_wide() -> None:
    values, counts = np.arange(4), np.array([6, 5, 5, 5])
    assert grown(values, counts, 0.0, 10)[0].first == 1
    assert grown(values, counts, 0.05, 10)[0].first == 2


def test_equal_counts_are_told_apart_by_value() -> None:
    tree, _ = grown(np.array([-3, 0, 2]), np.array([5, 5, 5]), 0.0, 4)
    assert (tree.first, tree.values.tolist(), tree.depths.tolist()) == (1, [-3, 0, 2], [0, 1, 1])
