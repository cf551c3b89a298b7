"""FineTune: the user's own training loop, held inside the candidate's encodings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from compress.candidate import Candidate
from compress.constrained import constrained
from compress.errors import RangeError, TaskError
from compress.stage import StageResult
from compress.task import Task, Tuning


@dataclass(frozen=True)
class FineTune:
    """Train for `epochs` at `learning_rate` with task.finetune; zeros, clusters and grids remain.

    epochs: 0 and more (0 changes nothing); learning_rate: above 0. Pruned weights stay zero, the
    shared values of a layer train while its indices stay, int8 weights stay on their grid. The
    integer grids of activations stay as they were calibrated. Batch norm learns in train mode.
    """

    epochs: int
    learning_rate: float
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __post_init__(self) -> None:
        if type(self.epochs) is not int or self.epochs < 0:
            raise RangeError(f"FineTune(epochs={self.epochs!r}): allowed are whole numbers from 0")
        rate = self.learning_rate
        if not (math.isfinite(rate) and rate > 0):
            raise RangeError(f"FineTune(learning_rate={rate!r}): allowed are finite numbers over 0")

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        finetune = task.need_finetune("FineTune")
        tuning = Tuning(self.epochs, self.learning_rate, task.seed, task.scratch)
        # Dropout and the like draw from torch's own generator: the same draws each time, and the
        # caller's generator is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            with constrained(candidate) as tuned:
                if self.epochs:
                    finetune(tuned.model, tuning)
                self._refuse_nan(tuned.model)
        before = candidate.network.parameters()
        after = tuned.result.network.parameters()
        touched = [
            layer.name
            for layer in candidate.network.layers()
            if layer.weight in before
            and not np.array_equal(before[layer.weight], after[layer.weight])
        ]
        return StageResult(tuned.result, tuple(touched))

    def _refuse_nan(self, model: nn.Module) -> None:
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                plain = name.replace("parametrizations.", "").replace(".original", "")
                raise TaskError(
                    f"FineTune: {plain!r} holds NaN or infinity after training at learning rate "
                    f"{self.learning_rate:g}; lower it"
                )
