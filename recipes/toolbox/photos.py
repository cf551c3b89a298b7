"""The task of recipes that compress a given ImageNet net without training or labels.

Of the pictures given with --data, the 1st, 3rd, 5th, ... calibrate and the others judge the
settings, by how near the answers are to the uncompressed net's. Those given with --test are
labelled and score each finished file once. All are decoded when they are needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from compress.candidate import Candidate
from compress.task import Batch, Task
from recipes.pictures.opening import open_pictures
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import Chosen, Pictures, need_labels
from recipes.toolbox.fidelity import Fidelity
from recipes.toolbox.job import Job
from recipes.toolbox.scoring import Classification
from recipes.toolbox.training import Trainer
from recipes.toolbox.training_device import accelerator_name, present

DATA = "photographs to calibrate and choose on, without labels: a folder, a labels.csv or a .npz"
TEST = "labelled photographs: class folders, a folder with a labels.csv, or a .npz"
_BATCH = 25
_SMOKE = 32


def photo_task(job: Job, dense: Candidate, **settings: Any) -> Task:
    """Calibrate and choose on --data, score finished files on --test, to compress `dense`.

    With `settings`, fields of Trainer, a net learns the answers of `dense` on the photographs that
    calibrate; no labels.

    Raises DataError for pictures that are missing, unreadable or, with --test, without labels.
    """
    spec = dense.spec
    unlabelled = open_pictures(job.need_data(DATA), spec.classes)
    labelled = open_pictures(job.need_test(TEST), spec.classes)
    labels = need_labels(labelled, f"--test {job.need_test(TEST)}")
    calibrating = _prepared(job, dense, Chosen(unlabelled, range(0, len(unlabelled), 2)))
    choosing = _prepared(job, dense, Chosen(unlabelled, range(1, len(unlabelled), 2)))
    testing = _prepared(job, dense, labelled)

    def calibration() -> Iterator[Batch]:
        for start in range(0, len(calibrating), _BATCH):
            yield spec.preprocess.normalise(calibrating[start : start + _BATCH])

    nearness = Fidelity.to(dense.network.predict, choosing, spec.preprocess, "comparing")
    score = Classification(testing, labels[: len(testing)], spec.preprocess, "scoring")
    told = f"photos {_digest(calibrating)} {_digest(choosing)}"
    task = Task(nearness, told, score.right, calibration=calibration, seed=job.seed)
    if not settings:
        return task
    device = present(job.train_on)
    trainer = Trainer(calibrating, None, spec.preprocess, teacher=dense, device=device, **settings)
    told = f"{told} {dense.digest()} {sorted(settings.items())}"
    named = accelerator_name(device)
    return replace(task, finetune=trainer, fingerprint=told, trains_on=named)


def _prepared(job: Job, dense: Candidate, pictures: Pictures) -> Prepared:
    """The pictures as the net takes them; 32 of them in a smoke run or a plan."""
    few = Chosen(pictures, range(min(_SMOKE, len(pictures)))) if job.brief else pictures
    *_, height, width = dense.spec.input_shape
    return Prepared(few, dense.spec.preprocess, (height, width))


def _digest(pictures: Prepared) -> str:
    """Length and checksum: a resumed run notices other pictures or another preprocessing."""
    checksum = 0
    for start in range(0, len(pictures), _BATCH):
        checksum = zlib.crc32(pictures[start : start + _BATCH], checksum)
    return f"{len(pictures)}:{checksum:08x}"
