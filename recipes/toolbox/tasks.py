"""The tasks of the recipes: pictures in memory, classified."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from compress.candidate import Candidate
from compress.spec import ModelSpec
from compress.task import Batch, Task
from recipes.datasets import PictureBlocks, Split, Splits
from recipes.pictures.preparing import Prepared
from recipes.toolbox.augmenting import Augmentation, augment
from recipes.toolbox.fidelity import Fidelity
from recipes.toolbox.job import Job
from recipes.toolbox.scoring import Classification
from recipes.toolbox.teaching import teacher_digest
from recipes.toolbox.training import Trainer
from recipes.toolbox.training_device import accelerator_name, present

CALIBRATION = 512
_BATCH = 64


def picture_task(job: Job, spec: ModelSpec, data: Splits, dataset: str, **settings: Any) -> Task:
    """Train on data.train, choose on data.val, score finished files on data.test.

    `settings`: fields of Trainer. Calibration pictures are the first 512 training pictures.
    """
    train, val, test = job.few(data.train), job.few(data.val), job.few(data.test)
    device = present(job.train_on)

    def calibration() -> Iterator[Batch]:
        for start in range(0, min(CALIBRATION, len(train)), _BATCH):
            yield spec.preprocess.normalise(train.images[start : start + _BATCH])

    return Task(
        evaluate=Classification(val.images, val.labels, spec.preprocess, "validating"),
        test=Classification(test.images, test.labels, spec.preprocess, "scoring").right,
        finetune=Trainer(train.images, train.labels, spec.preprocess, device=device, **settings),
        calibration=calibration,
        fingerprint=f"{dataset} {_digest(train)} {_digest(val)} {_told(settings, spec, train)}",
        seed=job.seed,
        trains_on=accelerator_name(device),
    )


def nearness_task(job: Job, dense: Candidate, data: Splits, dataset: str, **settings: Any) -> Task:
    """As `picture_task`, for a net that learnt the validation pictures, too: `dense`, as given.

    Trains on data.train by `settings`, fields of Trainer; without any it does not train.

    Its accuracy on them says nothing. So choices are made by how near the answers are to its own,
    on those pictures mirrored and shifted at random, of which it saw few so.
    """
    task = picture_task(job, dense.spec, data, dataset, **settings)
    pixels = job.few(data.val).images
    assert isinstance(pixels, np.ndarray)
    how = Augmentation(flip=True, shift=4, brightness=0.2)
    seen = augment(pixels, how, how.draw(len(pixels), np.random.default_rng(job.seed)))
    nearness = Fidelity.to(dense.predict, seen, dense.spec.preprocess)
    return replace(task, evaluate=nearness, finetune=task.finetune if settings else None)


def _told(settings: Mapping[str, Any], spec: ModelSpec, train: Split) -> str:
    """The settings by name, a teacher as what tells it from others."""
    teacher = settings.get("teacher")
    if teacher is not None:
        few = spec.preprocess.normalise(train.images[:_BATCH])
        settings = {**settings, "teacher": teacher_digest(teacher, few)}
    return str(sorted(settings.items()))


def _digest(split: Split) -> str:
    """Length and checksum: a resumed run notices other pictures or labels.

    Of pictures that are not in memory the names stand for the contents.
    """
    images = split.images
    first = zlib.crc32(images) if isinstance(images, np.ndarray) else _of_names(images)
    return f"{len(split)}:{zlib.crc32(split.labels, first):08x}"


def _of_names(images: PictureBlocks) -> int:
    assert isinstance(images, Prepared)
    names = [images.source.name(i) for i in range(len(images))]
    return zlib.crc32(f"{names} {images.preprocess} {images.size}".encode())
