"""The whole net with removed channels unread: what a smaller net must compute, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import RangeError
from compress.pruning.coupled import CoupledSet, Numbers

_TOLERANCE = 1e-3


def masked(
    candidate: Candidate, sets: Sequence[CoupledSet], kept: Mapping[str, Numbers]
) -> Candidate:
    """The candidate whose layers give the weight zero to each input that is not kept.

    That is the net without those channels, in its old shape: every channel of a set ends in the
    inputs of convolutions and linear layers.
    """
    own = candidate.network.parameters()
    groups = {layer.weight: layer.groups for layer in candidate.network.layers()}
    changed: dict[str, NDArray[Any]] = {}
    for one in sets:
        gone = np.setdiff1d(np.arange(one.channels), kept.get(one.name, np.arange(one.channels)))
        for name, axis in one.slots:
            if axis == 1 and name in groups:
                weight = changed.setdefault(name, np.array(own[name]))
                _silence(weight, one.indices((name, axis), gone), groups[name])
    return candidate.with_values(changed, {})


def _silence(weight: NDArray[Any], inputs: Numbers, groups: int) -> None:
    per, rows = weight.shape[1], len(weight) // groups
    by_group = weight.reshape(groups, rows, *weight.shape[1:])
    by_group[inputs // per, :, inputs % per] = 0


def check_same(whole: Candidate, smaller: Candidate) -> None:
    """RangeError where the smaller net answers a picture of noise otherwise than `whole`, masked.

    It never does where the net's code treats channels alike. Code that computes with the number of
    channels (a mean written as a sum and a division) does not, and following cannot see that.
    """
    shape = whole.network.input_shape
    picture = np.random.default_rng(0).standard_normal((1, *shape[1:])).astype(np.float32)
    wanted, found = whole.predict(picture), smaller.predict(picture)
    apart = float(np.abs(wanted - found).max(initial=0.0))
    if not apart <= _TOLERANCE * max(float(np.abs(wanted).max(initial=0.0)), 1e-6):
        raise RangeError(
            f"without the channels the net answers otherwise than it does when nothing reads them "
            f"(by {apart:.3g}): its code computes with their number; name the layers to leave alone"
        )
