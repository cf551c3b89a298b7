"""How far a net's answers have moved: the divergence of its probabilities from others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from compress.errors import RangeError
from compress.task import Batch, Predict


@dataclass(frozen=True, eq=False)
class Divergence:
    """Mean divergence from a reference on given pictures, in nats a picture.

    Sum of p log(p / q), p the softmax of the reference's outputs, q that of the answers.
    """

    batches: Callable[[], Iterable[Batch]]
    outputs: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, reference: Predict, batches: Callable[[], Iterable[Batch]]) -> Self:
        """The reference is called here, once for each batch; `batches` gives them anew each time.

        RangeError where there are none.
        """
        outputs = tuple(reference(batch) for batch in batches())
        if not outputs:
            raise RangeError("no pictures to compare answers on; give at least four to calibrate")
        return cls(batches, outputs)

    def __call__(self, predict: Predict) -> float:
        """At least 0; infinite where an answer is not a number."""
        pairs = zip(self.outputs, self.batches(), strict=True)
        each = np.concatenate([divergences(own, predict(batch)) for own, batch in pairs])
        return float(each.mean())


def divergences(
    reference: NDArray[np.float32], answers: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(N,) nats for logits of N pictures, the other axes flattened; infinite where not numbers."""
    ours = log_softmax(reference)
    finite = np.isfinite(answers.reshape(len(answers), -1)).all(axis=1)
    theirs = log_softmax(np.nan_to_num(answers))
    found = np.maximum((np.exp(ours) * (ours - theirs)).sum(axis=1), 0.0)
    return np.where(finite, found, np.inf)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, classes) in float64, for logits (N, ...)."""
    wide = logits.reshape(len(logits), -1).astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
