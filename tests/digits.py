"""1,797 real 8 x 8 digits (scikit-learn ships them): splits, a Task, and nets trained on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from compress.candidate import Candidate
from compress.spec import ModelSpec
from compress.task import Evaluate, Predict, Task, Tuning

EPOCHS = 12
LEARNING_RATE = 0.1
BATCH = 32


class Split(NamedTuple):
    """float32 (N, 1, 8, 8) pictures in [0, 1] and int64 labels."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Trained(NamedTuple):
    """A net that has learnt the digits, and the task it learnt."""

    candidate: Candidate
    task: Task


@functools.cache
def digits() -> dict[str, Split]:
    """'train' (1,097), 'calibration' (128 of train), 'validation' (300), 'test' (400)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    pictures = (images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    names = labels[order].astype(np.int64)
    bounds = {
        "train": (0, 1097),
        "calibration": (0, 128),
        "validation": (1097, 1397),
        "test": (1397, 1797),
    }
    return {k: Split(pictures[a:b], names[a:b]) for k, (a, b) in bounds.items()}


def scorer(split: Split) -> Evaluate:
    """top1 of a predict function on `split`."""

    def evaluate(predict: Predict) -> dict[str, float]:
        return {"top1": float((predict(split.images).argmax(1) == split.labels).mean())}

    return evaluate


def train(model: nn.Module, tuning: Tuning) -> None:
    """Plain SGD with momentum, on one thread; epoch e's order is a function of (seed, e)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _train(model, tuning)
    finally:
        torch.set_num_threads(threads)


def _train(model: nn.Module, tuning: Tuning) -> None:
    images, labels = map(torch.from_numpy, digits()["train"])
    optimizer = torch.optim.SGD(model.parameters(), lr=tuning.learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, tuning.epochs))
    model.train()
    for epoch in range(tuning.epochs):
        order = np.random.default_rng((tuning.seed, epoch)).permutation(len(images))
        for rows in torch.from_numpy(order).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
        tuning.after_epoch(epoch)


def calibration() -> Iterable[NDArray[np.float32]]:
    """Four batches of 32 training pictures."""
    return np.split(digits()["calibration"].images, 4)


def digits_task() -> Task:
    """Everything a task can have: validation scores, test scores, training, calibration."""
    splits = digits()
    return Task(
        evaluate=scorer(splits["validation"]),
        fingerprint="digits-8x8",
        test=scorer(splits["test"]),
        finetune=train,
        calibration=calibration,
    )


@functools.cache
def trained(spec: Callable[[], ModelSpec]) -> Trained:
    """The net of `spec`, trained once in a process, the same each time."""
    torch.manual_seed(0)
    model = spec().build()
    train(model, Tuning(EPOCHS, LEARNING_RATE, seed=0, checkpoint=None))
    return Trained(Candidate.load(spec(), model), digits_task())
