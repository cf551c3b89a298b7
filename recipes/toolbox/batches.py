"""The batches of an epoch: planned by chance alone, then made, whole or a process's share of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compress.spec import Preprocess
from compress.task import Batch
from recipes.toolbox.augmenting import Augmentation, Draws, augment
from recipes.toolbox.losses import Mixing, Targets
from recipes.toolbox.reading import Reader
from recipes.toolbox.sampling import Sampling, epoch_size, sample

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """A batch before any picture is read: their numbers, and all that chance decides of them."""

    chosen: Labels
    draws: Draws
    mixing: Mixing | None


@dataclass(frozen=True)
class Planner:
    """Plans an epoch as a function of its generator alone.

    count: the number of pictures; labels: theirs, or None, which only sampling "all" takes.
    """

    count: int
    labels: Labels | None
    batch_size: int
    sampling: Sampling
    augmentation: Augmentation
    mixup: float

    @property
    def size(self) -> int:
        """Pictures in an epoch."""
        return self.count if self.labels is None else epoch_size(self.labels, self.sampling)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self.size / self.batch_size)

    def plans(self, rng: np.random.Generator) -> Iterator[Plan]:
        """The epoch's batches, in an order of its own."""
        order = rng.permutation(self.size)
        if self.labels is not None and self.sampling != "all":
            order = sample(self.labels, self.sampling, rng)[order]
        # Split evenly: a last batch of one picture would have no variance for batch norm.
        for chosen in np.array_split(order, self.steps):
            draws = self.augmentation.draw(len(chosen), rng)
            mixing = Mixing.draw(self.mixup, len(chosen), rng) if self.mixup else None
            yield Plan(chosen, draws, mixing)


@dataclass(frozen=True)
class Share:
    """Which part of each batch is made: that of process `index` of `count`."""

    index: int = 0
    count: int = 1

    def of(self, size: int) -> slice:
        """A run of consecutive places of 0..size, equally long but for one."""
        return slice(self.index * size // self.count, (self.index + 1) * size // self.count)


@dataclass(frozen=True)
class Maker:
    """Makes the pictures of planned batches: read, augmented, normalised and mixed."""

    reader: Reader
    augmentation: Augmentation
    preprocess: Preprocess
    share: Share

    def make(self, plan: Plan) -> Batch:
        """float32 (n, C, H, W): the share's pictures."""
        part = self.share.of(len(plan.chosen))
        places = np.arange(len(plan.chosen))[part]
        own = self._pictures(plan, places)
        if plan.mixing is None:
            return own
        partners = plan.mixing.partners[part]
        # Of a whole batch the partners are there already.
        other = own[partners] if self.share.count == 1 else self._pictures(plan, partners)
        return plan.mixing.mix(own, other)

    def _pictures(self, plan: Plan, places: Labels) -> Batch:
        """The batch's pictures at `places`, as chance has changed them."""
        pixels = self.reader(plan.chosen[places])
        return self.preprocess.normalise(
            augment(pixels, self.augmentation, plan.draws.rows(places))
        )


def make_targets(
    plan: Plan, labels: Labels | None, weights: NDArray[np.float64] | None, share: Share
) -> Targets:
    """The share's labels; `weights` of the classes in the loss, None where all weigh 1."""
    size = len(plan.chosen)
    part = share.of(size)
    taught = (part.stop - part.start) * share.count / size
    if labels is None:
        return Targets(None, teacher_scale=taught)
    own, mixing, scale = labels[plan.chosen], plan.mixing, taught
    if weights is not None:
        whole = _mass(own, mixing, weights, slice(None))
        scale = _mass(own, mixing, weights, part) * share.count / whole
    if mixing is None:
        return Targets(torch.from_numpy(own[part]), label_scale=scale, teacher_scale=taught)
    partners = torch.from_numpy(own[mixing.partners][part])
    return Targets(torch.from_numpy(own[part]), partners, mixing.share, None, scale, taught)


def _mass(
    labels: Labels, mixing: Mixing | None, weights: NDArray[np.float64], part: slice
) -> float:
    """What the labels of `part` weigh in the loss, their partners' included."""
    own = weights[labels]
    if mixing is None:
        return float(own[part].sum())
    both = mixing.share * own + (1 - mixing.share) * own[mixing.partners]
    return float(both[part].sum())
