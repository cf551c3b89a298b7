"""Nearness to the uncompressed net, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import DataError
from compress.spec import Preprocess
from compress.task import Predict
from recipes.toolbox.fidelity import Fidelity

PLAIN = Preprocess(scale=1.0, channel_order="GREY")
PIXELS = np.arange(3, dtype=np.uint8).reshape(3, 1, 1)
# Softmax of the rows: (1/2, 1/2), (1/4, 3/4), (9/10, 1/10).
LOGITS = np.log(np.array([[1, 1], [1, 3], [9, 1]], np.float32))


def answering(logits: NDArray[np.float32]) -> Fidelity:
    return Fidelity(PIXELS, logits, PLAIN)


def by_picture(logits: NDArray[np.float32]) -> Predict:
    """Each picture's row, by its pixel."""
    return lambda batch: logits[batch[:, 0, 0, 0].astype(int)]


def test_the_reference_is_near_itself() -> None:
    found = Fidelity.to(by_picture(LOGITS), PIXELS, PLAIN)(by_picture(LOGITS))
    assert found == {"agreement": 1.0, "kl": 0.0, "samples": 3.0}


def test_a_shift_of_all_logits_changes_nothing() -> None:
    found = answering(LOGITS)(by_picture(LOGITS + np.float32(80)))
    assert found["agreement"] == 1.0
    assert found["kl"] == pytest.approx(0.0, abs=1e-6)


def test_divergence_by_hand() -> None:
    turned = LOGITS[:, ::-1].copy()
    found = answering(LOGITS)(by_picture(turned))
    by_hand = (0.0 + (0.75 - 0.25) * np.log(3) + (0.9 - 0.1) * np.log(9)) / 3
    assert found["kl"] == pytest.approx(by_hand, rel=1e-6)
    assert found["agreement"] == pytest.approx(1 / 3)


def test_huge_logits_do_not_overflow() -> None:
    sure = np.array([[1e4, 0], [0, 1e4], [1e4, 0]], np.float32)
    assert answering(sure)(by_picture(sure)) == {"agreement": 1.0, "kl": 0.0, "samples": 3.0}


def test_answers_that_are_no_numbers_are_far() -> None:
    broken = LOGITS.copy()
    broken[1, 0] = np.nan
    found = answering(LOGITS)(by_picture(broken))
    assert found["kl"] == np.inf
    assert found["agreement"] == pytest.approx(2 / 3)


def test_no_pictures() -> None:
    with pytest.raises(DataError, match="no pictures to compare"):
        Fidelity.to(by_picture(LOGITS), PIXELS[:0], PLAIN)
