"""Scores of a predict function on labelled pictures held in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from compress.spec import Preprocess
from compress.task import Predict
from recipes.toolbox.progress import bar

_BLOCK = 500


@dataclass(frozen=True, eq=False)
class Classification:
    """Top-1 accuracy on uint8 pictures (N, H, W[, C]) with labels (N,).

    The same object scores torch, ONNX and TFLite: it only calls `predict`.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    preprocess: Preprocess
    what: str = "scoring"

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not len(self.labels):
            raise DataError(
                f"{len(self.pixels)} pictures with {len(self.labels)} labels; equal, non-zero "
                f"numbers are needed"
            )

    def __call__(self, predict: Predict) -> dict[str, float]:
        """{'top1': in [0, 1], 'samples': N}."""
        right = self.right(predict)
        return {"top1": float(right.mean()), "samples": float(len(right))}

    def right(self, predict: Predict) -> NDArray[np.bool_]:
        """(N,), True where the largest output is the label's."""
        parts: list[NDArray[np.bool_]] = []
        for start in bar(range(0, len(self.labels), _BLOCK), self.what):
            block = self.preprocess.normalise(self.pixels[start : start + _BLOCK])
            found = predict(block).argmax(axis=-1)
            parts.append(found == self.labels[start : start + _BLOCK])
        return np.concatenate(parts)
