"""The task of recipes on nets with random weights: pictures of noise, and no accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.task import Batch, Predict, Task
from recipes.toolbox.job import Job

RANDOM_WEIGHTS = (
    "The weights are random: size, operations, time and memory are those that trained weights "
    "would have, and accuracy is not claimed."
)
_PICTURES = 4


def noise_task(job: Job, dense: Candidate) -> Task:
    """Compares files on pictures of noise, and a stage's answers with those of `dense`."""
    rng = np.random.default_rng(job.seed)
    noise = rng.standard_normal((_PICTURES, *dense.spec.input_shape[1:])).astype(np.float32)
    answers = dense.predict(noise)

    def calibration() -> Iterator[Batch]:
        yield noise

    def distance(predict: Predict) -> dict[str, float]:
        return {"relative_error": _relative(predict(noise), answers)}

    return Task(distance, f"noise {job.seed}", calibration=calibration, seed=job.seed)


def _relative(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Norm of the difference over the norm of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
