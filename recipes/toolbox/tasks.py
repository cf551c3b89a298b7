"""The tasks of the recipes: pictures in memory, classified."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from compress.spec import ModelSpec
from compress.task import Batch, Task
from recipes.datasets import Split, Splits
from recipes.toolbox.job import Job
from recipes.toolbox.scoring import Classification
from recipes.toolbox.training import Trainer

CALIBRATION = 512
_BATCH = 64


def picture_task(job: Job, spec: ModelSpec, data: Splits, dataset: str, **settings: Any) -> Task:
    """Train on data.train, choose on data.val, score finished files on data.test.

    `settings`: fields of Trainer. Calibration pictures are the first 512 training pictures.
    """
    train, val, test = job.few(data.train), job.few(data.val), job.few(data.test)

    def calibration() -> Iterator[Batch]:
        for start in range(0, min(CALIBRATION, len(train)), _BATCH):
            yield spec.preprocess.normalise(train.images[start : start + _BATCH])

    return Task(
        evaluate=Classification(val.images, val.labels, spec.preprocess, "validating"),
        test=Classification(test.images, test.labels, spec.preprocess, "scoring").right,
        finetune=Trainer(train.images, train.labels, spec.preprocess, **settings),
        calibration=calibration,
        fingerprint=f"{dataset} {_digest(train)} {_digest(val)} {sorted(settings.items())}",
        seed=job.seed,
    )


def _digest(split: Split) -> str:
    """Length and checksum: a resumed run notices other pictures or labels."""
    return f"{len(split)}:{zlib.crc32(split.labels, zlib.crc32(split.images)):08x}"
