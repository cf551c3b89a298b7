"""Pictures at equal distances, in one pass, however many come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import TaskError
from compress.spread import spread
from compress.task import Batch

SHAPE = (1, 1, 2, 2)


def numbered(sizes: list[int]) -> Iterator[Batch]:
    first = 0
    for size in sizes:
        numbers = np.arange(first, first + size, dtype=np.float32)
        yield np.broadcast_to(numbers[:, None, None, None], (size, 1, 2, 2)).copy()
        first += size


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 40))
def test_equal_distances(sizes: list[int], most: int) -> None:
    found = spread(lambda: numbered(sizes), SHAPE, "scan", most)
    numbers, total = found[:, 0, 0, 0], sum(sizes)
    assert found.dtype == np.float32
    assert found.shape[1:] == SHAPE[1:]
    assert len(found) == min(most, total)
    assert numbers[0] == 0
    distances = np.diff(numbers)
    assert distances.size == 0 or 1 <= distances.min() <= distances.max() <= 2 * distances.min()
    if len(found) == total:
        assert numbers.tolist() == list(range(total))
    else:
        assert total - numbers[-1] <= 3 * (distances.max() if distances.size else total)


def test_a_batch_of_another_shape_is_named() -> None:
    batches = [np.zeros((2, 1, 2, 2), np.float32), np.zeros((2, 1, 2, 3), np.float32)]
    with pytest.raises(TaskError, match=r"scan: calibration batch 2 is float32 of shape"):
        spread(lambda: batches, SHAPE, "scan", 4)
