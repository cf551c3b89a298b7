"""Paired intervals and McNemar's test: published figures and the symmetries they must have."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.intervals import mcnemar, paired_difference


def test_agresti_and_min_by_hand() -> None:
    """12 lost, 5 won of 100: 7 / 102 ± 1.96 sqrt(18 - 49 / 102) / 102."""
    low, high = paired_difference(12, 5, 100)
    assert low == pytest.approx(7 / 102 - 1.959964 * (18 - 49 / 102) ** 0.5 / 102)
    assert (low, high) == pytest.approx((-0.0118, 0.1491), abs=1e-4)


@given(lost=st.integers(0, 500), won=st.integers(0, 500), same=st.integers(0, 500))
def test_the_interval_holds_the_difference_and_turns_with_the_roles(
    lost: int, won: int, same: int
) -> None:
    samples = lost + won + same
    if not samples:
        return
    low, high = paired_difference(lost, won, samples)
    assert -1 <= low < high <= 1
    assert low <= (lost - won) / samples <= high
    turned = paired_difference(won, lost, samples)
    assert turned == pytest.approx((-high, -low))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 6), (8, 6), (10, 2), (3, 3)])
def test_mcnemar_is_the_binomial_tail(lost: int, won: int) -> None:
    total = lost + won
    tail = sum(comb(total, k) for k in range(min(lost, won) + 1)) / 2**total
    assert mcnemar(lost, won) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(lost, won) == mcnemar(won, lost)


def test_mcnemar_of_many_pictures() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(6000, 4000) < 1e-80
