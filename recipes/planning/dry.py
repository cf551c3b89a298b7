"""What a stage gets in a plan: the recipe's task with few pictures and no training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from compress.candidate import Candidate
from compress.task import Calibration, Task, Tuning

if TYPE_CHECKING:
    from torch import nn

# Enough for grids of every shape; small pictures are cheap, and moments err less with more.
PICTURES = 32
_MOST_PICTURES = 256
_VALUES = 1 << 20


def dry_task(task: Task) -> Task:
    """`task` with 32 calibration pictures, or up to 256 small ones, and a training loop that only
    counts epochs.

    What the task lacks it lacks here, too, so that a stage refuses it as it would in the run.
    """
    calibration = None if task.calibration is None else _few(task.calibration)
    finetune = None if task.finetune is None else _idle
    return replace(task, calibration=calibration, finetune=finetune, test=None, scratch=None)


def _idle(model: nn.Module, tuning: Tuning) -> None:
    """For stages that nobody told to do without training: every epoch, without a step."""
    del model
    for epoch in range(tuning.epochs):
        tuning.after_epoch(epoch)


def _few(calibration: Calibration) -> Calibration:
    def few() -> Iterable[Any]:
        given = cast("object", calibration())
        # What is no iterable of arrays is refused by whoever reads it.
        return _cut(cast("Iterable[Any]", given)) if isinstance(given, Iterable) else given  # type: ignore[return-value]

    return few


def _cut(batches: Iterable[Any]) -> Iterator[Any]:
    shown = 0
    for batch in batches:
        if not isinstance(batch, np.ndarray) or not batch.size:
            yield batch
            continue
        most = min(_MOST_PICTURES, max(PICTURES, _VALUES // batch[0].size))
        yield batch[: most - shown]
        shown += len(batch)
        if shown >= most:
            return


def awakened(candidate: Candidate, seed: int) -> Candidate:
    """The net with small random numbers where an initialisation put one number everywhere.

    Biases of zeros do not stay zeros in training, and files store equal tensors once.
    """
    generator = np.random.default_rng(seed)
    uniform = {
        name: (value + 0.01 * generator.standard_normal(value.shape)).astype(np.float32)
        for name, value in candidate.network.parameters().items()
        if value.size and (value == value.flat[0]).all()
    }
    return candidate.with_values(uniform, {})


class Later(Mapping[str, float]):
    """The metrics of a stage, computed when a recipe looks at them: most never do."""

    def __init__(self, candidate: Candidate, task: Task) -> None:
        self._asked = candidate, task
        self._found: Mapping[str, float] | None = None

    @property
    def _metrics(self) -> Mapping[str, float]:
        if self._found is None:
            candidate, task = self._asked
            self._found = dict(task.evaluate(candidate.predict))
        return self._found

    def __deepcopy__(self, memo: object) -> dict[str, float]:
        """What is known: files that keep a history do not ask for more."""
        return dict(self._found or {})

    def __getitem__(self, name: str) -> float:
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)
