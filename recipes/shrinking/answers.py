"""What a net answers on the pictures, and what that says against the original's answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compress.errors import ModelError
from compress.spec import Preprocess
from compress.task import Predict
from recipes.classifying.answers import are_probabilities, softmax
from recipes.shrinking.material import Shown
from recipes.toolbox.scoring import outputs_of
from targets.report_row import HeldOut
from targets.rows import Score

Classes = NDArray[np.int64]
_NONE = -1
_NORMAL_95 = 1.96


def answers_of(predict: Predict, shown: Shown, preprocess: Preprocess, what: str) -> Classes:
    """(N,): the class that `predict` gives each picture; -1 where it gives no number."""
    found = [_classes(out) for _, out in outputs_of(shown.pixels, preprocess, predict, what)]
    return np.concatenate(found)


def _classes(outputs: NDArray[np.float32]) -> Classes:
    sound = np.isfinite(outputs).all(axis=1)
    return np.where(sound, np.nan_to_num(outputs).argmax(axis=1), _NONE).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Original:
    """The untouched net's outputs, float32 (N, classes), on pictures with or without labels."""

    outputs: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    @staticmethod
    def on(predict: Predict, shown: Shown, preprocess: Preprocess, what: str) -> Original:
        """Ask it. ModelError where it gives what is no finite number."""
        found = [out for _, out in outputs_of(shown.pixels, preprocess, predict, what)]
        outputs = np.concatenate(found)
        if not np.isfinite(outputs).all():
            raise ModelError(
                "the net gives NaN or infinity on some pictures; check its preprocessing "
                "(--preprocess) and its weights"
            )
        return Original(outputs, shown.labels)

    @cached_property
    def classes(self) -> Classes:
        """(N,): its answers."""
        return self.outputs.argmax(axis=1).astype(np.int64)

    @cached_property
    def right(self) -> NDArray[np.bool_] | None:
        """(N,): where it answers as the label says."""
        return None if self.labels is None else self.classes == self.labels

    @property
    def top1(self) -> float | None:
        """In [0, 1]; None without labels."""
        return None if self.right is None else float(self.right.mean())

    def score(self, classes: Classes, evaluated_sha256: str) -> Score:
        """What a file with these answers is worth."""
        ours, top1, won, lost = self.right, None, None, None
        if ours is not None:
            right = np.asarray(classes == self.labels)
            top1 = float(right.mean())
            won = int(np.count_nonzero(right & ~ours))
            lost = int(np.count_nonzero(ours & ~right))
        return Score(
            top1=top1,
            samples=len(classes),
            won=won,
            lost=lost,
            evaluated_sha256=evaluated_sha256,
            agreement=float((classes == self.classes).mean()),
            estimated_drop=self.estimated_drop(classes),
        )

    def held_out(self, classes: Classes) -> HeldOut:
        """As `score`, on labelled pictures that no choice was made on."""
        found = self.score(classes, "")
        assert found.top1 is not None and found.won is not None and found.lost is not None
        assert self.top1 is not None
        return HeldOut(found.top1, self.top1, found.samples, found.won, found.lost)

    def estimated_drop(self, classes: Classes) -> float:
        """The loss of top-1, in [0, 1], if the original's probabilities are right.

        The mean of p(its class) - p(the other's class): an answer that changes between two classes
        of nearly equal probability costs nearly nothing, as on average over labels it does. Of that
        mean the upper end of its 95 % interval: few pictures must not make a file look good.
        """
        rows = np.arange(len(classes))
        known = np.where(classes == _NONE, 0.0, self._probabilities[rows, classes])
        costs = self._probabilities[rows, self.classes] - known
        deviation = float(np.std(costs, ddof=1)) if len(costs) > 1 else 0.0
        return min(1.0, float(np.mean(costs)) + _NORMAL_95 * deviation / len(costs) ** 0.5)

    @cached_property
    def _probabilities(self) -> NDArray[np.float64]:
        wide = self.outputs.astype(np.float64)
        return wide if are_probabilities(self.outputs) else softmax(wide)
