"""Classes that are not equally frequent: over- and under-sampling, and balanced weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Sampling = Literal["all", "over", "under"]
SAMPLINGS: tuple[Sampling, ...] = ("all", "over", "under")


def sample(labels: Labels, sampling: Sampling, rng: np.random.Generator) -> Labels:
    """The numbers of the pictures of one epoch, not yet shuffled.

    "all": each picture once. "over": every class as often as the most frequent one, its pictures
    equally often but for a remainder that is drawn. "under": every class as often as the rarest
    one, drawn without replacement. Classes without a picture stay so.
    """
    if sampling == "all":
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    each = epoch_size(labels, sampling) // len(members)
    return np.concatenate([_drawn(m, each, rng) for m in members])


def epoch_size(labels: Labels, sampling: Sampling) -> int:
    """How many pictures `sample` gives."""
    counts = np.unique(labels, return_counts=True)[1]
    if sampling == "over":
        return int(counts.max()) * len(counts)
    return int(counts.min()) * len(counts) if sampling == "under" else len(labels)


def _drawn(members: Labels, count: int, rng: np.random.Generator) -> Labels:
    whole, rest = divmod(count, len(members))
    return np.concatenate([np.tile(members, whole), rng.choice(members, rest, replace=False)])


def balanced_weights(labels: Labels, classes: int) -> tuple[float, ...]:
    """N / (classes with pictures * N of the class), so that each class weighs the same in sum.

    Their mean over the pictures is 1. Classes without pictures, of which no loss speaks, have 0.
    """
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    weights = np.zeros(len(counts))
    np.divide(len(labels), present * counts, out=weights, where=counts > 0)
    return tuple(weights.tolist())
