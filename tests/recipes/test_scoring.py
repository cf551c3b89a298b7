"""Ranks, top-k: exact counts; memory that does not grow with the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from compress.errors import DataError
from compress.spec import Preprocess
from compress.task import Batch, Predict
from recipes.toolbox.scoring import Classification

PLAIN = Preprocess(channel_order="GREY", scale=1.0)


def numbered(count: int) -> NDArray[np.uint8]:
    """Grey pictures of one pixel that say their own number."""
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1)


def saying(outputs: NDArray[np.float32]) -> Predict:
    """A predict function that gives picture i row i of `outputs`."""
    return lambda batch: outputs[batch[:, 0, 0, 0].astype(int)]


def test_ranks_by_hand() -> None:
    outputs = np.array(
        [[3, 1, 2], [1, 3, 2], [2, 2, 2], [2, 2, 2], [np.nan, 1, 0], [0, np.nan, 1]], np.float32
    )
    labels = np.array([0, 0, 0, 2, 0, 1])
    judge = Classification(numbered(6), labels, PLAIN, top=(1, 2))
    # Of equals the lower class comes first, as argmax has it; what is no number is never right.
    assert judge.ranks(saying(outputs)).tolist() == [0, 2, 0, 2, 3, 3]
    assert judge.right(saying(outputs)).tolist() == [True, False, True, False, False, False]
    assert judge(saying(outputs)) == {"top1": 2 / 6, "top2": 2 / 6, "samples": 6.0}


@given(
    hnp.arrays(np.float32, (20, 8), elements=st.integers(-3, 3).map(np.float32)),
    hnp.arrays(np.int64, 20, elements=st.integers(0, 7)),
)
def test_ranks_are_those_of_a_stable_sort(
    outputs: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    order = np.argsort(-outputs, axis=1, kind="stable")
    judge = Classification(numbered(20), labels, PLAIN, top=(1, 5))
    expected = [
        int(np.flatnonzero(row == label)[0]) for row, label in zip(order, labels, strict=True)
    ]
    assert judge.ranks(saying(outputs)).tolist() == expected
    found = judge(saying(outputs))
    assert found["top1"] == (outputs.argmax(1) == labels).mean()
    assert found["top5"] == np.mean(
        [label in row[:5] for row, label in zip(order, labels, strict=True)]
    )


def test_outputs_with_trailing_axes() -> None:
    outputs = np.eye(3, dtype=np.float32)[[2, 1]].reshape(2, 3, 1, 1)
    judge = Classification(numbered(2), np.array([2, 1]), PLAIN)
    assert judge.right(saying(outputs)).all()


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_without_output_is_refused(label: int) -> None:
    judge = Classification(numbered(2), np.array([0, label]), PLAIN)
    with pytest.raises(DataError, match=f"label {label}, the net puts out 3 classes"):
        judge(saying(np.eye(3, dtype=np.float32)))


class Lazy:
    """Pictures that exist only while they are sliced; notes how many at once."""

    def __init__(self, count: int, side: int) -> None:
        self._count, self._side = count, side
        self.slices: list[int] = []

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, where: slice, /) -> NDArray[np.uint8]:
        chosen = range(self._count)[where]
        self.slices.append(len(chosen))
        return np.stack([np.full((self._side, self._side, 3), n % 3, np.uint8) for n in chosen])


@pytest.mark.parametrize(("side", "largest"), [(8, 500), (224, 27), (1500, 1)])
def test_blocks_are_bounded_by_what_they_hold(side: int, largest: int) -> None:
    count = largest + 3
    pictures = Lazy(count, side)

    def predict(batch: Batch) -> Batch:
        return np.eye(3, dtype=np.float32)[batch[:, 0, 0, 0].astype(int)]

    judge = Classification(pictures, np.arange(count) % 3, Preprocess(scale=1.0))
    assert judge.right(predict).all()
    assert max(pictures.slices) == largest
    assert sum(pictures.slices) == count + 1  # the first is looked at once more, for its size
