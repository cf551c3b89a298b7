"""Task: what the user brings; library code never sees a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.errors import TaskError

if TYPE_CHECKING:
    from torch import nn

Batch = NDArray[np.float32]
Predict = Callable[[Batch], NDArray[np.float32]]
Evaluate = Callable[[Predict], Mapping[str, float]]
Judge = Callable[[Predict], NDArray[np.bool_]]
Calibration = Callable[[], Iterable[Batch]]


def _nothing(epoch: int) -> None:
    del epoch


@dataclass(frozen=True)
class Tuning:
    """What a user's training loop gets beside the model: how long, from where, how random.

    `checkpoint` is a path for the loop's own state after each epoch (None: keep none); a loop
    that finds it goes on from there. `seed` makes epoch e's order a function of (seed, e).
    `after_epoch` is to be called with the number of each epoch, from 0, when its steps are done
    and before the state is kept: some stages then move masks or clusters, which are buffers of
    the model. A loop that keeps no model.state_dict() loses them, and one that does not call is
    refused by those stages.
    """

    epochs: int
    learning_rate: float
    seed: int
    checkpoint: Path | None
    after_epoch: Callable[[int], None] = field(default=_nothing, compare=False, repr=False)


Finetune = Callable[["nn.Module", Tuning], None]


@dataclass(frozen=True)
class Task:
    """evaluate: metrics of a predict function on *validation* data, on which choices are made.

    `test` says of each test picture whether the answer is right, once for each finished file;
    `finetune` trains a model in place; `calibration` gives float32 (N, C, H, W) batches anew each
    call, never test images.
    `trains_on` names the accelerator that `finetune` trains on, for the record; "": a processor.
    `fingerprint` names the data and settings, so that a resumed run notices a change of either.
    `top1` in metrics lies in [0, 1].
    """

    evaluate: Evaluate
    fingerprint: str
    test: Judge | None = None
    finetune: Finetune | None = None
    calibration: Calibration | None = None
    seed: int = 0
    scratch: Path | None = None
    trains_on: str = ""

    def need_finetune(self, asker: str) -> Finetune:
        """The training loop, or TaskError in the name of `asker`."""
        if self.finetune is None:
            raise TaskError(f"{asker} needs task.finetune; the task has none: pass finetune=...")
        return self.finetune

    def need_calibration(self, asker: str) -> Calibration:
        """The calibration batches, or TaskError in the name of `asker`."""
        if self.calibration is None:
            raise TaskError(f"{asker} needs task.calibration; the task has none: pass one")
        return self.calibration

    def score(self, predict: Predict, metric: str, asker: str) -> float:
        """What `evaluate` gives for `metric`, or TaskError in the name of `asker`."""
        metrics = self.evaluate(predict)
        value = metrics.get(metric)
        if value is None or not math.isfinite(value):
            names = ", ".join(metrics) or "nothing"
            raise TaskError(
                f"{asker}(metric={metric!r}): task.evaluate gives {names}, and {value} for this "
                f"one; name a metric that it gives"
            )
        return float(value)
