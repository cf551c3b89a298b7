from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from compress.blockwise import all_finite, look_up, row_blocks


@pytest.mark.parametrize("shape", [(), (0,), (5,), (70_000,), (3, 50_000), (2, 3, 4, 5)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_look_up_is_indexing(shape: tuple[int, ...], kind: type) -> None:
    generator = np.random.default_rng(0)
    table = generator.standard_normal(200).astype(np.float32)
    indices = generator.integers(0, 200, shape).astype(kind)
    found = look_up(table, indices)
    assert found.dtype == table.dtype
    assert np.array_equal(found, table[indices])
    assert np.array_equal(look_up(table, indices.T), table[indices.T])


def test_look_up_takes_little_more_than_its_result() -> None:
    indices = np.zeros(4_000_000, np.uint8)
    tracemalloc.start()
    try:
        look_up(np.zeros(1, np.float32), indices)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * indices.size + (2 << 20)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_all_finite_finds_one(bad: float, place: int) -> None:
    values = np.arange(-4, 4, dtype=np.float32)
    assert all_finite(values)
    values[place] = bad
    assert not all_finite(values)


def test_all_finite_of_nothing_and_of_integers() -> None:
    assert all_finite(np.zeros((0, 3), np.float32))
    assert all_finite(np.arange(3))
    assert all_finite(np.ones(2, np.bool_))


@pytest.mark.parametrize("shape", [(), (0, 4), (1,), (200_000,), (7, 30_000), (3, 200_000)])
def test_row_blocks_cover_every_row_once(shape: tuple[int, ...]) -> None:
    values = np.arange(int(np.prod(shape))).reshape(shape)
    parts = [values[rows] if shape else values for rows in row_blocks(shape)]
    assert np.array_equal(np.concatenate([part.reshape(-1) for part in parts]), values.reshape(-1))
    assert all(len(part) == 1 or part.size <= 1 << 16 for part in parts if shape)
