"""Coupled sets: channels of many tensors that can only be removed together, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
# (name of a parameter or buffer, axis of it).
Slot = tuple[str, int]
ABSENT = -1


@dataclass(frozen=True, eq=False)
class CoupledSet:
    """Channels that the same layers write: keeping n of them leaves a net that works.

    name: the first layer that writes them. layers: all the weighted layers that do, depthwise ones
    among them. slots: of each tensor that has these channels, (channels, k) indices on that axis:
    what goes with a channel; k is above 1 behind a flatten, and ABSENT (-1) stands where a channel
    has fewer, or none, there. Axis 0 of a weight are its outputs. Axis 1 are the input channels of
    the layer, 0 to in_channels - 1, also where a grouped convolution's weight has a fraction of
    them on that axis: input channel c is weight[rows of group c // per, c % per], per being
    weight.shape[1]. A depthwise weight has axis 0 alone.

    classes: (channels,) by what reads and writes a channel: of one class any may be kept for any
    other. Where there are several, the pruned net itself says how many of each it takes (chosen
    numbers go through `planned`). multiple: the number kept must be a multiple of it. bundle: sets
    of the same bundle must be cut by the same fraction; a set on its own is its own bundle.
    """

    name: str
    layers: tuple[str, ...]
    channels: int
    slots: Mapping[Slot, Numbers]
    classes: Numbers
    multiple: int
    bundle: str

    def indices(self, slot: Slot, channels: Numbers) -> Numbers:
        """(n,) indices on the slot's axis of these channels, in their order, without ABSENT."""
        found = self.slots[slot][channels].ravel()
        return found[found != ABSENT]
