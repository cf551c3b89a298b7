"""Which tensor of one file is which of another: told by order and values, in whatever layout.

Names differ from converter to converter, but both files compute the same net in about the same
order. So tensors are paired in order (Needleman and Wunsch 1970, global alignment), such that the
pairs are as alike as they can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from targets.local_check import layouts

FloatArray = NDArray[np.float32]
# Below it they are no more alike than strangers; above it all are the same to the alignment.
_LEAST_DB, _MOST_DB = 3.0, 60.0
# So little alike, and so much less than a later pair, they are strangers (above _LEAST_DB).
_STRANGE_DB, _MENDED_DB = 20.0, 15.0
# As many places of a tensor are compared to find its twin.
_PLACES = 4096


def pair_tensors(
    ours: Mapping[str, FloatArray], theirs: Mapping[str, FloatArray]
) -> list[tuple[str, str, FloatArray]]:
    """(our name, their name, their values in our layout), in order; both for the same pictures.

    Tensors whose difference has half the power of the tensor itself, or more, are no pair. Constant
    tensors identify nothing and stay unpaired.
    """
    rows, columns = list(ours.items()), list(theirs.items())
    alike = np.zeros((len(rows), len(columns)))
    forms: dict[tuple[int, int], FloatArray] = {}
    for i, (_, mine) in enumerate(rows):
        if mine.size and mine.min() != mine.max():
            for j, (_, other) in enumerate(columns):
                score, form = _alike(mine, other)
                if form is not None:
                    alike[i, j], forms[i, j] = score, form
    pairs = _without_strangers(_aligned(alike), alike)
    return [(rows[i][0], columns[j][0], forms[i, j]) for i, j in pairs]


def _alike(mine: FloatArray, other: FloatArray) -> tuple[float, FloatArray | None]:
    """(how much alike, at least 0; the nearest layout of `other`, None where none is near)."""
    best, nearest = 0.0, None
    step = max(1, mine.size // _PLACES)
    wanted = mine.reshape(-1)[::step].astype(np.float64)
    power = float(wanted @ wanted)
    for form in _forms(other, mine.shape):
        difference = form.reshape(-1)[::step] - wanted
        noise = float(difference @ difference)
        if not np.isfinite(noise) or not power:
            continue
        db = _MOST_DB if not noise else min(_MOST_DB, 10 * np.log10(power / noise))
        if db - _LEAST_DB > best:
            best, nearest = db - _LEAST_DB, form
    return best, nearest


def _forms(values: FloatArray, shape: Sequence[int]) -> Iterator[FloatArray]:
    """`values` in the layouts that a tensor of `shape` may have: either file's channels go last."""
    yield from layouts(values, shape)
    if values.ndim == 4 and (last := values.transpose(0, 2, 3, 1)).shape == tuple(shape):
        yield last


def _without_strangers(
    pairs: list[tuple[int, int]], alike: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Pairs without those far less alike than one behind them: an error does not mend itself.

    A file may show a tensor that the other fuses away; what comes before an activation function is
    somewhat like what comes behind.
    """
    kept: list[tuple[int, int]] = []
    best = 0.0
    for pair in reversed(pairs):
        if alike[pair] > _STRANGE_DB or best - alike[pair] < _MENDED_DB:
            kept.append(pair)
            best = max(best, float(alike[pair]))
    return kept[::-1]


def _aligned(alike: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Index pairs, both ascending, of the greatest sum; the first of equal ones."""
    height, width = alike.shape
    best = np.zeros((height + 1, width + 1))
    for i in range(height - 1, -1, -1):
        for j in range(width - 1, -1, -1):
            best[i, j] = max(best[i + 1, j], best[i, j + 1], alike[i, j] + best[i + 1, j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < height and j < width:
        if alike[i, j] > 0 and best[i, j] == alike[i, j] + best[i + 1, j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs
