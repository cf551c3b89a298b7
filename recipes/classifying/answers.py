"""What a file answers: the likeliest classes of each picture, with probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import Pictures
from recipes.toolbox.model_files import ModelFile
from recipes.toolbox.scoring import outputs_of

Kind = Literal["logits", "probabilities"]
# How far float32 probabilities of many classes may sum up beside 1, and 8-bit ones.
_NEAR, _COARSE = 1e-3, 0.25


@dataclass(frozen=True, eq=False)
class Answers:
    """What a file puts out for N pictures: `outputs` float32 (N, K), and of which kind it is."""

    outputs: NDArray[np.float32]
    kind: Kind

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def first(self) -> NDArray[np.int64]:
        """(N,): the likeliest class; of equal ones the lower number."""
        return self.outputs.argmax(axis=1)

    def shares(self, index: int) -> NDArray[np.float64]:
        """(K,): a picture's probabilities by class number; the softmax of logits."""
        row = self.outputs[index].astype(np.float64)
        return softmax(row) if self.kind == "logits" else row

    def top(self, index: int, count: int) -> list[tuple[int, float]]:
        """(class, probability) of the `count` likeliest classes of a picture, best first."""
        shares = self.shares(index)
        best = np.argsort(-self.outputs[index], kind="stable")[:count]
        return [(int(number), float(shares[number])) for number in best]


def ask(file: ModelFile, pictures: Pictures) -> Answers:
    """Run `file` on every picture, each prepared as the file wants it.

    Raises DataError for a picture that cannot be read or prepared, and for outputs that are no
    numbers. All outputs are kept: 4 bytes for each class of each picture.
    """
    prepared = Prepared(pictures, file.preprocess, file.size)
    outputs = np.concatenate(list(_checked(file, pictures, prepared)))
    return Answers(outputs, "probabilities" if are_probabilities(outputs) else "logits")


def _checked(
    file: ModelFile, pictures: Pictures, prepared: Prepared
) -> Iterator[NDArray[np.float32]]:
    running = f"running {file.path.name}"
    for start, outputs in outputs_of(prepared, file.preprocess, file.predict, running):
        finite = np.isfinite(outputs).all(axis=1)
        if not finite.all():
            name = pictures.name(start + int(finite.argmin()))
            raise DataError(
                f"{file.path} puts out what is no number for {name}; export the file anew"
            )
        yield outputs


def are_probabilities(outputs: NDArray[np.float32]) -> bool:
    """True where every row of (N, K) lies in [0, 1] and sums to 1: the file ends in a softmax.

    An 8-bit file rounds each probability to a grid, by up to half a step, and the sum may miss 1
    by that for each class.
    """
    if outputs.min() < 0 or outputs.max() > 1:
        return False
    sums = outputs.sum(axis=1, dtype=np.float64)
    rounding = outputs.shape[1] * _step(outputs) / 2
    return bool(np.abs(sums - 1).max() <= min(_COARSE, max(_NEAR, rounding)))


def _step(values: NDArray[np.float32]) -> float:
    """The step of the grid of 64 or more places in [0, 1] that all values lie on, 0 for none."""
    step = float(np.diff(np.unique(values)).min(initial=1.0))
    places = values / np.float32(step)
    on_grid = np.abs(places - np.rint(places)).max() < 1e-2
    return step if on_grid and step <= 1 / 64 else 0.0


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(z) / sum exp(z) over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
