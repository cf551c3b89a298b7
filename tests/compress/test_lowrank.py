from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.errors import RangeError
from compress.lowrank import rank_for_energy, truncate, worthwhile_rank


def normal(m: int, n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32)


def with_values(m: int, n: int, values: list[float], seed: int = 0) -> NDArray[np.float32]:
    r = len(values)
    left = np.linalg.qr(normal(m, r, seed).astype(np.float64))[0]
    right = np.linalg.qr(normal(n, r, seed + 1).astype(np.float64))[0]
    return ((left * values) @ right.T).astype(np.float32)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_full_rank_gives_the_weight_back(m: int, n: int, seed: int) -> None:
    weight = normal(m, n, seed)
    left, right, error = truncate(weight, min(m, n))
    assert (left.shape, right.shape) == ((m, min(m, n)), (min(m, n), n))
    assert left.dtype == right.dtype == np.float32
    rest = np.linalg.norm(weight - left.astype(np.float64) @ right) / np.linalg.norm(weight)
    assert rest < 1e-6
    assert error < 1e-6


@pytest.mark.parametrize("shape", [(120, 70), (70, 120), (64, 64)])
@pytest.mark.parametrize("rank", [1, 7, 40])
def test_error_is_that_of_the_svd(shape: tuple[int, int], rank: int) -> None:
    weight = normal(*shape)
    left, right, error = truncate(weight, rank)
    values = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
    least = np.sqrt((values[rank:] ** 2).sum() / (values**2).sum())
    assert error == pytest.approx(least, rel=1e-5)
    wide = weight.astype(np.float64)
    rest = np.linalg.norm(wide - left.astype(np.float64) @ right.astype(np.float64))
    assert error == pytest.approx(rest / np.linalg.norm(wide), rel=1e-9)
    # Both factors carry the square root of the singular values.
    np.testing.assert_allclose(np.linalg.norm(left, axis=0) ** 2, values[:rank], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(right, axis=1) ** 2, values[:rank], rtol=1e-4)


def test_values_over_many_magnitudes() -> None:
    weight = with_values(60, 50, [1e3, 1.0, 1e-3, 1e-5])
    assert truncate(weight, 50).error < 1e-6
    assert truncate(weight, 2).error == pytest.approx(1e-6, rel=0.2)


def test_exact_low_rank_and_zero() -> None:
    weight = with_values(30, 20, [3.0, 2.0])
    assert truncate(weight, 2).error < 1e-6
    assert truncate(weight, 20).error < 1e-6
    left, right, error = truncate(np.zeros((4, 3), np.float32), 2)
    assert error == 0.0
    assert not (left @ right).any()
    assert np.isfinite(left).all()
    assert np.isfinite(right).all()


def test_signs_do_not_depend_on_the_library() -> None:
    _, right, _ = truncate(normal(9, 5), 5)
    assert (right[np.arange(5), np.abs(right).argmax(axis=1)] > 0).all()
    left, _, _ = truncate(normal(5, 9), 5)
    assert (left[np.abs(left).argmax(axis=0), np.arange(5)] > 0).all()


def test_rank_for_energy() -> None:
    weight = with_values(30, 40, [4.0, 2.0, 1.0])  # energies 16, 4, 1 of 21
    assert [rank_for_energy(weight, e) for e in (0.01, 0.76, 0.77, 0.95, 0.96)] == [1, 1, 2, 2, 3]
    assert rank_for_energy(normal(12, 9), 1.0) == 9
    assert rank_for_energy(np.eye(6, dtype=np.float32), 1.0) == 6
    assert rank_for_energy(np.ones((6, 5), np.float32), 1.0) == 1
    assert rank_for_energy(np.zeros((4, 4), np.float32), 0.9) == 1


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 0.999), st.integers(0, 99))
def test_rank_for_energy_is_the_least(m: int, n: int, energy: float, seed: int) -> None:
    weight = normal(m, n, seed)
    rank = rank_for_energy(weight, energy)
    squares = np.linalg.svd(weight.astype(np.float64), compute_uv=False) ** 2
    kept = np.cumsum(squares) / squares.sum()
    assert kept[rank - 1] >= energy - 1e-9
    assert rank == 1 or kept[rank - 2] < energy + 1e-9


@given(st.integers(1, 500), st.integers(1, 500))
def test_worthwhile_rank_is_the_largest(m: int, n: int) -> None:
    rank = worthwhile_rank(m, n)
    assert rank * (m + n) < m * n <= (rank + 1) * (m + n)


def test_worthwhile_rank_known() -> None:
    assert worthwhile_rank(4096, 9216) == 2835
    assert worthwhile_rank(1, 100) == 0
    assert worthwhile_rank(4, 4) == 1  # rank 2 has as many as the dense one


def test_refused_arguments() -> None:
    weight = normal(4, 3)
    for rank in (0, 4):
        with pytest.raises(RangeError, match="1 to 3"):
            truncate(weight, rank)
    for energy in (0.0, 1.01, float("nan")):
        with pytest.raises(RangeError, match="energy"):
            rank_for_energy(weight, energy)
    for bad in (weight[0], weight[:, :0], weight[None]):
        with pytest.raises(RangeError, match="matrices"):
            truncate(bad, 1)
    with pytest.raises(RangeError, match="NaN"):
        truncate(weight * np.float32(np.nan), 1)
    with pytest.raises(RangeError, match="matrix"):
        worthwhile_rank(0, 5)


@pytest.mark.parametrize("shape", [(1100, 1030), (1030, 1100)])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_small_ranks_of_large_matrices(shape: tuple[int, int], decay: float) -> None:
    """Found without the other singular values, with the same error to four digits."""
    weight = normal(*shape) * np.arange(1, shape[1] + 1, dtype=np.float32) ** -decay
    left, right, error = truncate(weight, 20)
    values = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
    least = np.sqrt((values[20:] ** 2).sum() / (values**2).sum())
    assert least * (1 - 1e-6) <= error <= least * (1 + 5e-5)
    np.testing.assert_allclose(np.linalg.norm(left, axis=0) ** 2, values[:20], rtol=2e-2)
    again = truncate(weight, 20)
    np.testing.assert_array_equal(again.left, left)
    np.testing.assert_array_equal(again.right, right)
    low = (normal(shape[0], 3) @ normal(3, shape[1])).astype(np.float32)
    assert truncate(low, 8).error < 1e-5  # fewer values than asked for: nothing breaks
