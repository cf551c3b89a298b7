"""Agreement and noise of answers: exact where they can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compress.errors import ReportError
from targets.answers import agreement, answers_sqnr
from targets.report_row import Decibels


def test_agreement_counts_first_classes() -> None:
    reference = np.array([[1, 0], [0, 1], [3, 2], [0, 5]], np.float32)
    answers = np.array([[2, 0], [1, 0], [3, 2], [np.nan, 5]], np.float32)
    assert agreement(reference, answers) == 0.5


def test_noise_is_the_ratio_of_powers() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(300, 10)).astype(np.float32)
    answers = reference + np.float32(0.1) * generator.normal(size=(300, 10)).astype(np.float32)
    found = answers_sqnr(reference, answers)
    assert found is not None
    power, noise = (reference**2).sum(dtype=np.float64), ((answers - reference) ** 2).sum()
    assert found.value == pytest.approx(10 * np.log10(power / noise), abs=0.01)
    assert found.low < found.value < found.high < found.low + 1
    assert answers_sqnr(reference, answers) == found


def test_one_picture_has_an_interval_without_width() -> None:
    found = answers_sqnr(np.array([[3.0, 4.0]], np.float32), np.array([[3.0, 4.5]], np.float32))
    assert found == Decibels(20.0, 20.0, 20.0)


@pytest.mark.parametrize("answers", [[[1.0, 2.0]], [[np.nan, 2.0]], [[np.inf, 2.0]]])
def test_equal_answers_and_no_numbers_have_no_ratio(answers: list[list[float]]) -> None:
    assert answers_sqnr(np.array([[1.0, 2.0]], np.float32), np.array(answers, np.float32)) is None


def test_answers_to_other_pictures_are_refused() -> None:
    with pytest.raises(ReportError, match=r"shape \(2, 3\) beside \(1, 3\)") as caught:
        agreement(np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32))
    assert "\n" not in str(caught.value)


def test_an_interval_holds_its_value() -> None:
    with pytest.raises(ReportError, match="outside its interval"):
        Decibels(1.0, 2.0, 3.0)
