"""What a task lacks is said in the asker's name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compress.errors import TaskError
from compress.task import Predict, Task


def evaluate(predict: Predict) -> dict[str, float]:
    return {"top1": float(predict(np.zeros((1, 1, 2, 2), np.float32)).mean())}


def test_a_task_gives_what_it_has() -> None:
    def finetune(model: object, tuning: object) -> None:
        raise AssertionError((model, tuning))

    batches = [np.zeros((2, 1, 2, 2), np.float32)]
    task = Task(evaluate, "data", finetune=finetune, calibration=lambda: batches)
    assert task.need_finetune("X") is finetune
    assert list(task.need_calibration("X")()) == batches
    assert list(task.need_calibration("X")()) == batches  # anew each call
    assert task.evaluate(lambda batch: batch + 0.25) == {"top1": 0.25}


@pytest.mark.parametrize("part", ["finetune", "calibration"])
def test_what_is_missing_is_named_with_its_asker(part: str) -> None:
    task = Task(evaluate, "data")
    with pytest.raises(TaskError, match=rf"SomeStage needs task\.{part}") as error:
        getattr(task, f"need_{part}")("SomeStage")
    assert "\n" not in str(error.value)


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task(evaluate, "data").seed = 1  # type: ignore[misc]
