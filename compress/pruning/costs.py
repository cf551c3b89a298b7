"""MACs or parameters of a net while channels go: exactly what measure.count will find.

A convolution or linear layer does `positions` x (elements of its weight) MACs, so both costs are a
sum over tensors of a number times the product of the lengths of their axes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from compress.candidate import Candidate
from compress.pruning.coupled import CoupledSet, Numbers

Kind = Literal["macs", "parameters"]


class Costs:
    """The cost of a candidate without some channels; it changes by `drop` alone.

    `whole`: that of the candidate as it is.
    """

    def __init__(self, candidate: Candidate, sets: Sequence[CoupledSet], kind: Kind) -> None:
        own = candidate.network.parameters()
        self._by_name = {one.name: one for one in sets}
        self._groups = {layer.weight: layer.groups for layer in candidate.network.layers()}
        self._price = _positions(candidate) if kind == "macs" else Counter(dict.fromkeys(own, 1))
        self._lengths = {name: list(own[name].shape) for name in self._price if name in own}
        self.whole = self.now = sum(map(self._of, self._lengths, self._lengths.values()))

    def saving(self, gone: Mapping[str, Numbers]) -> int:
        """What goes with these channels of these sets, all of which must be there still."""
        changed = self._without(gone)
        return sum(
            self._of(name, self._lengths[name]) - self._of(name, lengths)
            for name, lengths in changed.items()
        )

    def drop(self, gone: Mapping[str, Numbers]) -> None:
        self.now -= self.saving(gone)
        self._lengths.update(self._without(gone))

    def _without(self, gone: Mapping[str, Numbers]) -> dict[str, list[int]]:
        """The lengths of the tensors that these channels are in, afterwards."""
        lost: Counter[tuple[str, int]] = Counter()
        for name, channels in gone.items():
            one = self._by_name[name]
            for slot in one.slots:
                if slot[0] in self._lengths:
                    lost[slot] += len(one.indices(slot, channels))
        changed: dict[str, list[int]] = {}
        for (tensor, axis), count in lost.items():
            lengths = changed.setdefault(tensor, list(self._lengths[tensor]))
            groups = self._groups.get(tensor, 1) if axis == 1 else 1
            assert count % groups == 0, (tensor, count, groups)
            lengths[axis] -= count // groups
        return changed

    def _of(self, name: str, lengths: Iterable[int]) -> int:
        return self._price[name] * math.prod(lengths)


def _positions(candidate: Candidate) -> Counter[str]:
    """By weight: output positions for a picture, over all its uses."""
    found: Counter[str] = Counter()
    for node in candidate.network.graph.nodes:
        weight = node.parameters.get("weight")
        if weight is not None and node.id.operator == "conv2d":
            found[weight] += math.prod(node.shape[2:])
        elif weight is not None and node.id.operator == "linear":
            found[weight] += math.prod(node.shape[1:-1])
    return found
