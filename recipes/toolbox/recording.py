"""Keeps a file's answers while the task scores it: so each test picture is run only once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compress.task import Batch, Predict


@dataclass
class Recorder:
    """`predict`, remembering what it gave."""

    predict: Predict
    given: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        outputs = self.predict(batch)
        self.given.append(np.array(outputs, np.float32).reshape(len(batch), -1))
        return outputs

    def answers(self) -> NDArray[np.float32] | None:
        """(pictures, classes), in the order in which they were asked for; None if none were."""
        return np.concatenate(self.given) if self.given else None
