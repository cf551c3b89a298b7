"""PruneGradually: masks that grow between the epochs of one training.

Zhu and Gupta 2017 (arXiv:1710.01878), eq. 1: sparsity rises along a cubic, fast at first, when
redundant weights abound, and slowly towards the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.constrained import Constrained
from compress.encoding import Masked
from compress.errors import RangeError, TaskError
from compress.network import LayerInfo
from compress.stage import Stage, StageResult
from compress.stages.fine_tune import FineTune
from compress.stages.layers import settings_by_layer
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.schedules import paced
from compress.task import Task


@dataclass(frozen=True)
class PruneGradually:
    """Train as `train` says, pruning as `prune` says in `rounds` steps, the first before epoch 1.

    rounds: 1 to train.epochs, one between two epochs; the last `train.epochs - rounds + 1` epochs
    train at the final sparsity. Needs a training loop that calls tuning.after_epoch.
    """

    prune: PruneMagnitude
    train: FineTune
    rounds: int
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if type(self.prune) is not PruneMagnitude or type(self.train) is not FineTune:
            raise RangeError(
                f"PruneGradually(prune={self.prune!r}, train={self.train!r}): a PruneMagnitude "
                f"and a FineTune are needed"
            )
        if self.train.refresh:
            raise RangeError(
                "PruneGradually(train=FineTune(refresh=True)): prune first, share then"
            )
        if type(self.rounds) is not int or not 1 <= self.rounds <= self.train.epochs:
            raise RangeError(
                f"PruneGradually(rounds={self.rounds!r}): allowed are whole numbers from 1 to the "
                f"epochs, {self.train.epochs}"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        task.need_finetune("PruneGradually")
        layers, wanted, skipped = self.prune.layers_of(candidate)
        pruned = [layer for layer in layers if wanted.get(layer.name, 0) > 0]
        own = candidate.network.parameters()
        masks = {
            layer.weight: Masked(own[layer.weight] != 0)
            for layer in pruned
            if layer.weight not in candidate.encodings
        }

        def between(held: Constrained, done: int) -> None:
            if done < self.rounds:
                rising = paced(self.prune.sparsity, (done + 1) / self.rounds, "cubic")
                self._prune(held, pruned, settings_by_layer(layers, rising))

        tuned = self.train.tuned(candidate.with_values({}, masks), task, between=between)
        self._check_pruned(tuned, pruned, wanted)
        return StageResult(tuned, tuple(layer.name for layer in pruned), tuple(skipped))

    def untrained(self) -> tuple[Stage, ...]:
        """All zeros at once, in the weights as they are."""
        return self.prune, self.train.untrained()

    def _prune(
        self, held: Constrained, layers: list[LayerInfo], wanted: Mapping[str, float]
    ) -> None:
        """Raise the sparsities to the `wanted` ones, by the weights as they are now."""
        weights = {layer.name: _weight(held, layer.weight) for layer in layers}
        gone = self.prune.choice(weights, wanted)
        for layer in layers:
            held.parts[layer.weight].prune(gone[layer.name])

    def _check_pruned(
        self, tuned: Candidate, layers: list[LayerInfo], wanted: dict[str, float]
    ) -> None:
        """TaskError where the loop did not call tuning.after_epoch, or lost the masks."""
        own = tuned.network.parameters()
        zeros = sum(int(np.count_nonzero(own[la.weight] == 0)) for la in layers)
        asked = sum(int(wanted[la.name] * own[la.weight].size) for la in layers)
        if zeros < asked - len(layers):
            raise TaskError(
                f"PruneGradually left {zeros} zeros of {asked}: the training loop must call "
                f"tuning.after_epoch(epoch) after each epoch, before it keeps its state"
            )


def _weight(held: Constrained, name: str) -> NDArray[np.float32]:
    """The weight as it acts."""
    part, original = held.parts[name], held.original(name)
    with torch.no_grad():
        return part(original).cpu().numpy()
