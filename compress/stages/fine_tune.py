"""FineTune: the user's own training loop, held inside the candidate's encodings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from compress.candidate import Candidate
from compress.constrained import Constrained, bound_by, constrained, is_full_grid
from compress.encoding import Encoding, Masked
from compress.errors import RangeError, TaskError
from compress.parametrizations import Bound, RefreshedWeight
from compress.stage import StageResult
from compress.task import Task, Tuning

Between = Callable[[Constrained, int], None]


def _nothing(held: Constrained, done: int) -> None:
    del held, done


@dataclass(frozen=True)
class FineTune:
    """Train for `epochs` at `learning_rate` with task.finetune; zeros, clusters and grids remain.

    epochs: 0 and more (0 changes nothing); learning_rate: above 0. Pruned weights stay zero, the
    shared values of a layer train while its indices stay, int8 weights stay on their grid. Tensors
    with an integer grid are rounded to it in training, as they are afterwards; the grids stay as
    they were calibrated (TrainInt8 learns them). Batch norm learns in train mode.

    refresh: shared weights keep values of their own beside, which get their gradient, and between
    two epochs each weight joins the cluster nearest to its own value; zeros stay. Needs a training
    loop that calls tuning.after_epoch.
    """

    epochs: int
    learning_rate: float
    refresh: bool = False
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __post_init__(self) -> None:
        if type(self.epochs) is not int or self.epochs < 0:
            raise RangeError(f"FineTune(epochs={self.epochs!r}): allowed are whole numbers from 0")
        if type(self.refresh) is not bool:
            raise RangeError(f"FineTune(refresh={self.refresh!r}): allowed are True and False")
        rate = self.learning_rate
        if not (math.isfinite(rate) and rate > 0):
            raise RangeError(f"FineTune(learning_rate={rate!r}): allowed are finite numbers over 0")

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        if self.refresh:
            tuned = self.tuned(candidate, task, refreshable, self._refresh)
        else:
            tuned = self.tuned(candidate, task)
        return StageResult(tuned, moved(candidate, tuned))

    def untrained(self) -> FineTune:
        """The same net: what training changes are values."""
        return replace(self, epochs=0)

    def tuned(
        self,
        candidate: Candidate,
        task: Task,
        hold: Callable[[Encoding], Bound] | None = None,
        between: Between = _nothing,
        *,
        learn_steps: bool = False,
    ) -> Candidate:
        """The candidate trained inside encodings that `hold` keeps (see `constrained`).

        `between` is called with what is trained and the number of epochs done: 0 before the first,
        then after each.
        """
        finetune = task.need_finetune("FineTune")
        # Dropout and the like draw from torch's own generator: the same draws each time, and the
        # caller's generator is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            with constrained(candidate, hold, learn_steps=learn_steps) as held:
                tuning = Tuning(
                    *(self.epochs, self.learning_rate, task.seed, task.scratch),
                    after_epoch=lambda epoch: between(held, epoch + 1),
                )
                if self.epochs:
                    between(held, 0)
                    finetune(held.model, tuning)
                self._refuse_nan(held.model)
                self._refuse_stale(held)
        return held.result

    def _refresh(self, held: Constrained, done: int) -> None:
        """New assignments, but not after the last epoch: centroids train with the final ones."""
        if 0 < done < self.epochs:
            for name, part in held.parts.items():
                if isinstance(part, RefreshedWeight):
                    part.refresh(held.original(name))

    def _refuse_stale(self, held: Constrained) -> None:
        """TaskError where the loop did not call tuning.after_epoch, or lost the buffers."""
        for part in held.parts.values():
            if isinstance(part, RefreshedWeight) and part.refreshes < self.epochs - 1:
                raise TaskError(
                    f"FineTune(refresh=True) refreshed {int(part.refreshes)} times in "
                    f"{self.epochs} epochs: the training loop must call tuning.after_epoch(epoch) "
                    f"after each epoch, before it keeps its state"
                )

    def _refuse_nan(self, model: nn.Module) -> None:
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                plain = name.replace("parametrizations.", "").replace(".original", "")
                raise TaskError(
                    f"FineTune: {plain!r} holds NaN or infinity after training at learning rate "
                    f"{self.learning_rate:g}; lower it"
                )


def refreshable(encoding: Encoding) -> Bound:
    """What holds a weight to its clusters so that it may change between them."""
    if isinstance(encoding, Masked) or is_full_grid(encoding):
        return bound_by(encoding)
    return RefreshedWeight(encoding)


def moved(before: Candidate, after: Candidate) -> tuple[str, ...]:
    """The layers of which a weight changed."""
    old, new = before.network.parameters(), after.network.parameters()
    return tuple(
        layer.name
        for layer in before.network.layers()
        if layer.weight in old and not np.array_equal(old[layer.weight], new[layer.weight])
    )
