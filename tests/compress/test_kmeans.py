from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from compress.errors import RangeError
from compress.kmeans import cluster
from compress.optimal_partition import partition

METHODS: tuple[Literal["linear", "optimal"], ...] = ("linear", "optimal")
small_floats = st.floats(-100, 100, width=32)


def normal(size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def inertia_of(values: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    away = np.abs(values.astype(np.float64).reshape(-1, 1) - centroids.astype(np.float64))
    return float((away.min(axis=1) ** 2).sum())


def least_inertia(values: list[float], k: int) -> float:
    ordered = np.sort(np.array(values, np.float64))
    n = ordered.size
    best = np.inf
    for cuts in combinations(range(1, n), min(k, n) - 1):
        parts = np.split(ordered, cuts)
        best = min(best, sum(float(((part - part.mean()) ** 2).sum()) for part in parts))
    return best


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 9)), min_size=1, max_size=9), st.data()
)
def test_partition_is_optimal(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    points = np.array(sorted(point for point, _ in pairs), np.float64)
    weights = np.array([weight for _, weight in pairs], np.float64)
    k = data.draw(st.integers(1, points.size))

    def cost(lasts: list[int]) -> float:
        total = 0.0
        for start, last in zip([0, *(n + 1 for n in lasts)], lasts, strict=False):
            part, weight = points[start : last + 1], weights[start : last + 1]
            total += float((weight * (part - np.average(part, weights=weight)) ** 2).sum())
        return total

    found = partition(points, weights, k).tolist()
    assert len(found) == k
    assert found == sorted(set(found))
    assert found[-1] == points.size - 1
    choices = combinations(range(points.size - 1), k - 1)
    best = min(cost([*choice, points.size - 1]) for choice in choices)
    assert cost(found) <= best + 1e-9


@given(st.lists(small_floats, min_size=1, max_size=10), st.integers(1, 5))
def test_optimal_is_optimal(values: list[float], k: int) -> None:
    found = cluster(np.array(values, np.float32), k)
    assert found.inertia <= least_inertia(values, k) * (1 + 1e-5) + 1e-9


@given(
    st.lists(small_floats, min_size=1, max_size=60), st.integers(1, 12), st.sampled_from(METHODS)
)
def test_laws(values: list[float], k: int, method: Literal["linear", "optimal"]) -> None:
    array = np.array(values, np.float32)
    centroids, assignments, inertia = cluster(array, k, method)
    assert 1 <= centroids.size <= k
    assert centroids.dtype == np.float32
    assert (np.diff(centroids) > 0).all()
    assert np.unique(assignments).tolist() == list(range(centroids.size))
    assert inertia == pytest.approx(inertia_of(array, centroids), rel=1e-9, abs=1e-12)
    away = np.abs(array.astype(np.float64) - centroids.astype(np.float64)[assignments])
    assert float((away**2).sum()) == pytest.approx(inertia, rel=1e-9, abs=1e-12)
    if np.unique(array).size <= k:
        assert inertia == 0.0
        assert np.array_equal(centroids[assignments], array)


@pytest.mark.parametrize("k", [2, 5, 32])
@pytest.mark.parametrize("shape", ["normal", "laplace", "uniform", "pruned"])
def test_not_worse_than_scikit_learn(k: int, shape: str) -> None:
    generator = np.random.default_rng(k)
    values = {
        "normal": lambda: generator.standard_normal(1500),
        "laplace": lambda: generator.laplace(size=1500),
        "uniform": lambda: generator.random(1500),
        "pruned": lambda: (
            generator.standard_normal(1500) + np.sign(generator.random(1500) - 0.5) * 3
        ),
    }[shape]().astype(np.float32)
    oracle = KMeans(k, n_init=3, random_state=0, tol=1e-9).fit(values.astype(np.float64)[:, None])
    assert cluster(values, k).inertia <= oracle.inertia_ * (1 + 1e-5)


def test_lloyd_is_scikit_learns_from_the_same_start() -> None:
    values = normal(3000)
    start = np.linspace(float(values.min()), float(values.max()), 9)
    found = cluster(values, 9, "linear")
    oracle = KMeans(9, init=start[:, None], n_init=1, max_iter=300, tol=0.0)
    oracle.fit(values.astype(np.float64)[:, None])
    np.testing.assert_allclose(found.centroids, np.sort(oracle.cluster_centers_[:, 0]), rtol=1e-6)
    assert found.inertia == pytest.approx(oracle.inertia_, rel=1e-6)


def test_optimal_is_at_least_as_good_as_linear_on_many_values() -> None:
    values = normal(300_000) * np.float32(0.05)
    best, paper = cluster(values, 256), cluster(values, 256, "linear")
    assert best.centroids.size == 256
    assert best.assignments.dtype == np.uint8
    assert best.inertia < paper.inertia


@pytest.mark.parametrize(("k", "distortion"), [(8, 0.03454), (16, 0.009497), (32, 0.002499)])
def test_optimal_for_the_normal_distribution(k: int, distortion: float) -> None:
    """Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6 (1960), table I."""
    values = normal(400_000)
    found = cluster(values, k).inertia / float((values.astype(np.float64) ** 2).sum())
    assert found == pytest.approx(distortion, rel=0.01)


def test_grid_optimum_is_within_a_millionth_of_the_true_one() -> None:
    values = normal(20_000)
    ordered = np.sort(values).astype(np.float64)
    ends = partition(ordered, np.ones_like(ordered), 8)
    parts = np.split(ordered, ends[:-1] + 1)
    true = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    assert true <= cluster(values, 8).inertia * (1 + 1e-9)
    assert cluster(values, 8).inertia <= true * (1 + 2e-6)


def quadratic_optimum(values: NDArray[np.float64], k: int) -> float:
    """Least inertia by the plain dynamic programme over all pairs of borders."""
    ordered = np.sort(values - values.mean()).astype(np.longdouble)
    n = ordered.size
    first = np.concatenate([[0.0], np.cumsum(ordered)])
    square = np.concatenate([[0.0], np.cumsum(ordered**2)])
    start, end = np.arange(n)[:, None], np.arange(1, n + 1)[None, :]
    sums, counts = first[end] - first[start], end - start
    within = np.where(counts > 0, square[end] - square[start] - sums**2 / counts.clip(1), np.inf)
    within = within.clip(0)
    cost = within[0]
    for _ in range(1, k):
        cost = (np.concatenate([[np.inf], cost[:-1]])[:, None] + within).min(axis=0)
    return float(cost[-1])


Spread = Callable[[np.random.Generator, int], NDArray[np.float64]]
SPREADS: dict[str, Spread] = {
    "normal": lambda g, n: g.standard_normal(n) * 0.02,
    "laplace": lambda g, n: g.laplace(size=n),
    "heavy tails": lambda g, n: g.standard_t(2, n),
    "two lumps": lambda g, n: g.standard_normal(n) + np.sign(g.random(n) - 0.5) * 5,
    "huge range": lambda g, n: g.standard_normal(n) * 10 ** g.uniform(-30, 10, n),
    "rounded": lambda g, n: np.round(g.standard_normal(n), 2),
    "subnormal": lambda g, n: g.standard_normal(n) * 1e-40,
    "far off": lambda g, n: 1000 + g.standard_normal(n),
}


@pytest.mark.parametrize("k", [3, 31, 127])
@pytest.mark.parametrize("spread", SPREADS)
def test_optimal_is_within_two_hundred_thousandths(spread: str, k: int) -> None:
    values = SPREADS[spread](np.random.default_rng(k), 400).astype(np.float32)
    wide = values.astype(np.float64)
    scale = float(np.abs(wide).max())
    least = quadratic_optimum(wide / scale, k) * scale**2
    # Centroids are float32, so that no value is met better than to half of its last bit.
    rounding = float((np.spacing(np.abs(values)).astype(np.float64) ** 2).sum())
    assert cluster(values, k).inertia <= least * (1 + 2e-5) + rounding


@pytest.mark.parametrize("spread", SPREADS)
def test_optimal_on_more_values_than_the_grid_has_points(spread: str) -> None:
    values = SPREADS[spread](np.random.default_rng(0), 12_000).astype(np.float32)
    ordered = np.sort(values).astype(np.float64)
    ends = partition(ordered, np.ones_like(ordered), 31)
    parts = np.split(ordered, ends[:-1] + 1)
    least = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    rounding = float((np.spacing(np.abs(values)).astype(np.float64) ** 2).sum())
    assert cluster(values, 31).inertia <= least * (1 + 2e-5) + rounding


def test_memory_is_the_sorted_values_and_the_assignments() -> None:
    values = normal(1 << 22)
    tracemalloc.start()
    try:
        cluster(values, 15)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    fixed = 16 << 20  # the dynamic programme's tables, whatever the number of values
    assert peak <= 1.4 * values.nbytes + fixed


@pytest.mark.parametrize("method", METHODS)
def test_same_input_same_bytes_and_order_does_not_matter(
    method: Literal["linear", "optimal"],
) -> None:
    values = normal(50_000)
    one, two = cluster(values, 32, method), cluster(values[::-1].copy(), 32, method)
    assert one.centroids.tobytes() == two.centroids.tobytes()
    assert np.array_equal(one.assignments, two.assignments[::-1])


def test_shape_is_kept() -> None:
    values = normal(600).reshape(5, 4, 3, 10)
    found = cluster(values, 4)
    assert found.assignments.shape == values.shape
    assert np.array_equal(found.assignments.ravel(), cluster(values.ravel(), 4).assignments)


def test_wide_assignments() -> None:
    values = np.arange(1000, dtype=np.float32)
    found = cluster(values, 1000)
    assert found.assignments.dtype == np.uint16
    assert found.inertia == 0.0
    assert cluster(values, 300).assignments.dtype == np.uint16
    assert cluster(values, 2000, "linear").centroids.size == 1000


def test_far_off_and_stretched_values() -> None:
    generator = np.random.default_rng(0)
    offset = (1000 + generator.standard_normal(5000) * 0.5).astype(np.float32)
    oracle = KMeans(8, n_init=3, random_state=0).fit(offset.astype(np.float64)[:, None])
    assert cluster(offset, 8).inertia <= oracle.inertia_ * (1 + 1e-5)
    outlier = np.append(normal(50_000), np.float32(1e4))
    assert cluster(outlier, 17).inertia <= cluster(outlier[:-1], 16).inertia * (1 + 1e-5)
    # Nearly all of the different values hide within a millionth of the range and of the number.
    hidden = 0.5 + np.arange(6000, dtype=np.float32) * np.float32(1e-7)
    crowd = np.concatenate([np.zeros(2_000_000, np.float32), hidden, np.ones(1, np.float32)])
    assert cluster(crowd, 64).centroids.size == 64
    huge = np.array([3e38, -3e38, 3.3e38, 0, 1], np.float32)
    assert cluster(huge, 3).inertia <= least_inertia(huge.tolist(), 3) * (1 + 1e-5)


def test_empty_clusters_go() -> None:
    values = np.array([0.0, 0.05, 0.1, 0.15, 10.0], np.float32)
    found = cluster(values, 4, "linear")  # starts at 0, 3.3, 6.7 and 10
    np.testing.assert_allclose(found.centroids, [0.075, 10], rtol=1e-6)
    assert found.assignments.tolist() == [0, 0, 0, 0, 1]
    values = np.concatenate([np.linspace(0, 0.1, 50), [10.0]]).astype(np.float32)
    assert cluster(values, 8, "linear").centroids.size == 2


def test_halfway_belongs_to_the_lower() -> None:
    found = cluster(np.array([0, 1, 2], np.float32), 2, "linear")
    assert found.assignments.tolist() == [0, 0, 1]
    assert found.centroids.tolist() == [0.5, 2]
    assert found.inertia == 0.5


def test_linear_begins_evenly_spaced() -> None:
    values = np.array([-1, 0, 0.25, 1, 2, 3], np.float32)  # starts at -1, 0, 1, 2, 3
    assert cluster(values, 5, "linear").centroids.tolist() == [-1, 0.125, 1, 2, 3]
    assert cluster(values, 1, "linear").centroids.tolist() == [0.875]


def test_negative_zero_becomes_zero() -> None:
    found = cluster(np.array([-0.0, 1.0], np.float32), 4)
    assert found.centroids.tobytes() == np.array([0.0, 1.0], np.float32).tobytes()


def test_optimal_weighs_equal_values() -> None:
    found = cluster(np.array([0, 0, 1, 9, 10], np.float32), 2)
    assert found.centroids.tolist() == [np.float32(1 / 3), 9.5]


def test_refused_arguments() -> None:
    values = normal(10)
    for k in (0, 65537):
        with pytest.raises(RangeError, match="clusters"):
            cluster(values, k)
    with pytest.raises(RangeError, match="linear"):
        cluster(values, 1025)
    with pytest.raises(RangeError, match="no values"):
        cluster(values[:0], 2)
    for bad in (np.nan, np.inf):
        with pytest.raises(RangeError, match="NaN or infinity"):
            cluster(np.array([1, bad], np.float32), 2)
    with pytest.raises(RangeError, match="float32"):
        cluster(values.astype(np.float64), 2)  # type: ignore[arg-type]
