"""The MNIST task of the LeNet recipes."""

from __future__ import annotations

from collections.abc import Iterator

from compress.spec import ModelSpec
from compress.task import Batch, Task
from recipes.datasets import mnist
from recipes.toolbox.job import Job
from recipes.toolbox.scoring import Classification
from recipes.toolbox.training import Trainer

CALIBRATION = 512
_BATCH = 64


def mnist_task(job: Job, spec: ModelSpec) -> Task:
    """Train on images 0-54,999, choose on 55,000-59,999, score files on the 10,000 test images.

    Calibration pictures are training images.
    """
    data = mnist()
    train, val, test = job.few(data.train), job.few(data.val), job.few(data.test)

    def calibration() -> Iterator[Batch]:
        for start in range(0, min(CALIBRATION, len(train.labels)), _BATCH):
            yield spec.preprocess.normalise(train.images[start : start + _BATCH])

    return Task(
        evaluate=Classification(val.images, val.labels, spec.preprocess, "validating"),
        test=Classification(test.images, test.labels, spec.preprocess, "scoring"),
        finetune=Trainer(train.images, train.labels, spec.preprocess, shift=2),
        calibration=calibration,
        fingerprint=f"mnist train={len(train.labels)} val={len(val.labels)} shift=2",
        seed=job.seed,
    )
