"""A file's answers beside the uncompressed net's on the same pictures: agreement and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import ReportError
from targets.report_row import Decibels

Answers = NDArray[np.float32]
_DRAWS = 2000


def agreement(reference: Answers, answers: Answers) -> float:
    """Share of the pictures, in [0, 1], on which both have the same first class.

    Both (pictures, classes). An answer that is not a number agrees with nothing.
    """
    _check(reference, answers)
    same = np.nan_to_num(answers).argmax(1) == reference.argmax(1)
    return float((same & np.isfinite(answers).all(1)).mean())


def answers_sqnr(reference: Answers, answers: Answers, seed: int = 0) -> Decibels | None:
    """10 log10(power of the reference's outputs / power of the difference), with 95 % interval.

    Both (pictures, classes). The interval is a bootstrap over the pictures (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, section 13.3). None where the answers are equal or are
    not numbers: no ratio says that.
    """
    _check(reference, answers)
    wide = reference.astype(np.float64)
    signal, noise = (wide**2).sum(1), ((wide - answers) ** 2).sum(1)
    if not (np.isfinite(noise).all() and signal.any() and noise.any()):
        return None
    generator, even = np.random.default_rng(seed), np.full(len(signal), 1 / len(signal))
    both = np.stack([signal, noise], axis=1)
    # One draw at a time: counts of all draws together would not fit for a large test set.
    powers = np.stack([generator.multinomial(len(both), even) @ both for _ in range(_DRAWS)])
    known = powers[(powers > 0).all(1)]
    low, high = np.quantile(_decibels(known[:, 0], known[:, 1]), (0.025, 0.975))
    value = float(_decibels(signal.sum(), noise.sum()))
    return Decibels(*(round(float(x), 2) for x in (value, min(low, value), max(high, value))))


def _decibels(signal: Any, noise: Any) -> Any:
    return 10 * np.log10(signal / noise)


def _check(reference: Answers, answers: Answers) -> None:
    if reference.shape != answers.shape or reference.ndim != 2 or not reference.size:
        raise ReportError(
            f"answers of shape {answers.shape} beside {reference.shape}; give both nets' outputs "
            f"(pictures, classes) on the same pictures"
        )
