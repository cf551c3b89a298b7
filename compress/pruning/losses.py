"""What it costs to remove channels: fixed scores, or how far the answers would move now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.compensation import as_groups
from compress.moments import Moments
from compress.network import LayerInfo
from compress.pruning.coupled import ABSENT, CoupledSet, Numbers
from compress.pruning.elimination import Elimination, about_mean, block_diagonal, shrunk

Floats = NDArray[np.float64]
# Of the mean square of a layer's inputs, so that one that is always 0 does no harm.
DAMPING = 1e-4


class Losses(Protocol):
    """What the chooser asks, and what it tells."""

    def each(self, name: str) -> Floats:
        """(channels,) of the set: what removing each of them alone costs now."""
        ...

    def drop(self, name: str, gone: Numbers) -> None:
        """These channels of the set are removed from now on."""
        ...


@dataclass(frozen=True)
class FixedLosses:
    """Scores that do not change when other channels go."""

    scores: Mapping[str, Floats]

    def each(self, name: str) -> Floats:
        return self.scores[name]

    def drop(self, name: str, gone: Numbers) -> None:
        del name, gone


@dataclass
class _Reader:
    layer: LayerInfo
    state: Elimination


@dataclass
class DivergenceLosses:
    """Nats a picture that the answers move by when channels go and their readers do best without.

    See elimination.py. Readers are taken each for itself; what several sets write into one reader
    is taken together. pictures: those that the moments are of. fixed: by set (channels,), for
    readers without moments.
    """

    candidate: Candidate
    sets: Sequence[CoupledSet]
    moments: Mapping[str, Moments]
    pictures: int
    fixed: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    _readers: dict[str, _Reader] = field(default_factory=dict[str, _Reader])
    _seen: dict[str, tuple[int, Floats]] = field(default_factory=dict[str, tuple[int, Floats]])
    _changes: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        own = self.candidate.network.parameters()
        self._by_name = {one.name: one for one in self.sets}
        read = {tensor for one in self.sets for tensor, axis in one.slots if axis == 1}
        for layer in self.candidate.network.layers():
            seen = self.moments.get(layer.name)
            if seen is None or layer.weight not in read:
                continue
            centred = about_mean(seen.inputs, seen.means, seen.positions)
            inputs = block_diagonal(shrunk(centred, seen.positions * self.pictures))
            weight = block_diagonal(as_groups(own[layer.weight], layer.groups))
            outputs = block_diagonal(seen.outputs)
            state = Elimination(weight, inputs, outputs, DAMPING)
            self._readers[layer.weight] = _Reader(layer, state)

    def each(self, name: str) -> Floats:
        one = self._by_name[name]
        version = sum(self._changes[tensor] for tensor, axis in one.slots if axis == 1)
        known = self._seen.get(name)
        if known is None or known[0] != version:
            known = (version, self._computed(one))
            self._seen[name] = known
        return known[1]

    def _computed(self, one: CoupledSet) -> Floats:
        total = np.array(self.fixed.get(one.name, np.zeros(one.channels)))
        for tensor, axis in one.slots:
            reader = self._readers.get(tensor)
            if axis != 1 or reader is None:
                continue
            slots = one.slots[tensor, axis]
            counts = (slots != ABSENT).sum(axis=1)
            for count in np.unique(counts[counts > 0]):
                rows = np.flatnonzero(counts == count)
                blocks = slots[rows][slots[rows] != ABSENT].reshape(len(rows), count)
                total[rows] += reader.state.losses(_columns(reader.layer, blocks))
        return total

    def drop(self, name: str, gone: Numbers) -> None:
        one = self._by_name[name]
        for slot in one.slots:
            tensor, axis = slot
            reader, indices = self._readers.get(tensor), one.indices(slot, gone)
            if reader is None or not len(indices):
                continue
            if axis == 1:
                reader.state.drop_inputs(_columns(reader.layer, indices[:, None]).ravel())
            else:
                reader.state.drop_outputs(indices)
            self._changes[tensor] += 1


def _columns(layer: LayerInfo, inputs: Numbers) -> Numbers:
    """(channels, k) input channels -> (channels, k * window) columns of the layer's matrix."""
    window = int(np.prod(layer.shape[2:], dtype=np.int64))
    return (inputs[:, :, None] * window + np.arange(window)).reshape(len(inputs), -1)
