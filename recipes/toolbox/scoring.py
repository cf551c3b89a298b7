"""Scores of a predict function on labelled pictures (without labels: see fidelity.py).

The pictures are an array, or anything that gives one when sliced (recipes.pictures.Prepared), and
are taken in blocks, so that memory does not grow with their number. The same object scores torch,
ONNX and TFLite: it only calls `predict`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from compress.spec import Preprocess
from compress.task import Batch, Predict
from recipes.toolbox.progress import bar

_BLOCK = 500
# 27 pictures of 224 x 224 x 3: a net's inner tensors take some ten times its input.
_BLOCK_VALUES = 1 << 22


class Pixels(Protocol):
    """uint8 pictures, (N, H, W[, C]) for each slice, channels in the preprocessing's order."""

    def __len__(self) -> int: ...
    def __getitem__(self, where: slice, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class Classification:
    """Accuracy on labelled pictures; `labels` int64 (N,).

    `top`: which accuracies `__call__` gives: (1, 5) counts a picture right where its label is the
    first, and where it is among the first five.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    preprocess: Preprocess
    what: str = "scoring"
    top: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not len(self.labels):
            raise DataError(
                f"{len(self.pixels)} pictures with {len(self.labels)} labels; equal, non-zero "
                f"numbers are needed"
            )

    def __call__(self, predict: Predict) -> dict[str, float]:
        """{'top1': in [0, 1], 'samples': N}, with 'top5' and so on as `top` asks."""
        ranks = self.ranks(predict)
        scores = {f"top{k}": float((ranks < k).mean()) for k in self.top}
        return scores | {"samples": float(len(ranks))}

    def right(self, predict: Predict) -> NDArray[np.bool_]:
        """(N,), True where the largest output is the label's."""
        return self.ranks(predict) == 0

    def ranks(self, predict: Predict) -> NDArray[np.int64]:
        """(N,): how many outputs come before the label's; of equal outputs the lower class does.

        Outputs that are not all numbers rank the label last. Raises DataError for a label that the
        outputs do not have.
        """
        found = [
            _ranks(outputs, self.labels[start : start + len(outputs)])
            for start, outputs in outputs_of(self.pixels, self.preprocess, predict, self.what)
        ]
        return np.concatenate(found)


def outputs_of(
    pixels: Pixels, preprocess: Preprocess, predict: Predict, what: str
) -> Iterator[tuple[int, Batch]]:
    """(number of the first picture, outputs (n, classes)) for each block."""
    picture = math.prod(pixels[:1].shape[1:])
    block = max(1, min(_BLOCK, _BLOCK_VALUES // max(1, picture)))
    for start in bar(range(0, len(pixels), block), what):
        batch = preprocess.normalise(pixels[start : start + block])
        # Some files end in (n, classes, 1, 1).
        yield start, predict(batch).reshape(len(batch), -1)


def _ranks(outputs: Batch, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    classes = outputs.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"a picture has label {wrong}, the net puts out {classes} classes from 0")
    own = np.take_along_axis(outputs, labels[:, None], axis=1)
    before = np.arange(classes) < labels[:, None]
    ranks = ((outputs > own) | ((outputs == own) & before)).sum(axis=1)
    return np.where(np.isnan(outputs).any(axis=1), classes, ranks)
