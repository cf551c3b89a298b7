"""Which integer tensors of a net share prefix codes, and how each is put into symbols.

Whole: a symbol for each element; its lowest bits may stand beside the code as they are, where they
are as good as random. Sparse: for each element that is not zero the zeros before it and its value,
which is the relative index of Deep Compression (Han et al. 2016, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from targets.formats.forest import LARGEST
from targets.formats.integers import IntegerTensor
from targets.formats.prefix_tree import Integers, Tree, grown

# From one element that is kept to the next, at most.
FARTHEST = LARGEST
# Levels after the first digit, at most: a dozen operators each, and symbols that are rare.
_LEVELS = 8
_LOW_BITS = range(8)
# Bits of the file: an entry of the table for a value, and one for the node above it; what names a
# group; the operators of one more level.
_VALUE_BITS = 16
_GROUP_BITS = 8 * 60
_LEVEL_BITS = 8 * 400


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors whose symbols follow one another. `low`: bits of an integer beside its code.

    wide: the integers are beyond int8, so that their codes are what is left when `low` bits are
    shifted out; else codes have zeros in the place of those.
    """

    tensors: tuple[IntegerTensor, ...]
    sparse: bool
    low: int
    wide: bool

    @cached_property
    def integers(self) -> Integers:
        """Those of all tensors."""
        return np.concatenate([tensor.integers for tensor in self.tensors])

    def codes(self, elements: Integers) -> Integers:
        """What of the elements has a word in the prefix code."""
        return elements >> self.low if self.wide else elements >> self.low << self.low


@dataclass(frozen=True, eq=False)
class Bundle:
    """Groups that are put together before they are taken apart into tensors.

    All sparse groups whose integers are of the same kind are one, so that places are counted once.
    """

    groups: tuple[Group, ...]

    @property
    def tensors(self) -> tuple[IntegerTensor, ...]:
        return tuple(tensor for group in self.groups for tensor in group.tensors)

    @property
    def size(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.integers.size for tensor in self.tensors)

    @property
    def sparse(self) -> bool:
        return self.groups[0].sparse

    @cached_property
    def told(self) -> list[tuple[Integers, Integers]]:
        """Of each group (places from one element to the next, elements); all, if not sparse."""
        if not self.sparse:
            return [(np.zeros(0, np.int64), group.integers) for group in self.groups]
        integers = np.concatenate([group.integers for group in self.groups])
        steps, elements = _sparse(integers)
        ends = np.cumsum([group.integers.size for group in self.groups])
        cuts = np.searchsorted(np.cumsum(steps), ends[:-1], side="right")
        return list(zip(np.split(steps, cuts), np.split(elements, cuts), strict=True))

    def streams(self) -> list[Integers]:
        """The symbols of each group: of a sparse one, places first."""
        found: list[Integers] = []
        for group, (steps, elements) in zip(self.groups, self.told, strict=True):
            found += [steps, group.codes(elements)] if self.sparse else [group.codes(elements)]
        return found


class _Counts(NamedTuple):
    values: Integers
    counts: Integers


@dataclass(frozen=True, eq=False)
class Proposal:
    """A group and, for each number of low bits that it may have, how often symbols occur then.

    bits: what the group takes of a file, its table included, with the best number.
    """

    group: Group
    histograms: Mapping[int, tuple[_Counts, ...]]
    bits: float


def proposed(tensor: IntegerTensor, step_bits: float) -> Proposal | None:
    """The cheapest way to put a tensor into symbols; None where a prefix code cannot."""
    ways = [_proposal(tensor, False, step_bits)]
    if 0 < np.count_nonzero(tensor.integers) < tensor.integers.size:
        ways.append(_proposal(tensor, True, step_bits))
    possible = [proposal for proposal in ways if proposal.histograms]
    return min(possible, key=lambda proposal: proposal.bits, default=None)


def bundled(proposals: Iterable[Proposal], step_bits: float) -> list[Bundle]:
    """All tensors, in groups where sharing a code takes less than codes of their own."""
    kinds: dict[tuple[str, bool, bool], list[Proposal]] = {}
    for proposal in proposals:
        group = proposal.group
        kinds.setdefault((group.tensors[0].kind, group.sparse, group.wide), []).append(proposal)
    bundles: list[Bundle] = []
    for (_, sparse, wide), same in kinds.items():
        groups = [proposal.group for proposal in _merged(same, step_bits)]
        if sparse and not wide:
            bundles.append(Bundle(tuple(groups)))
        else:
            bundles += [Bundle((group,)) for group in groups]
    return bundles


def grown_for(bundles: Sequence[Bundle], step_bits: float) -> tuple[list[Tree], list[Integers]]:
    """(trees, streams) of all bundles, with as many levels as pay."""
    streams = [stream for bundle in bundles for stream in bundle.streams()]
    counts = [_counts(stream) for stream in streams]
    best: tuple[float, list[Tree]] = (math.inf, [])
    for levels in range(1, _LEVELS + 1):
        if any(c.values.size > 16 << levels for c in counts):
            continue
        grown_all = [grown(*c, step_bits, levels) for c in counts]
        trees = [tree for tree, _ in grown_all]
        deepest = max(int(tree.depths.max()) for tree in trees)
        cost = sum(cost for _, cost in grown_all) + _LEVEL_BITS * deepest
        best = min(best, (cost, trees), key=lambda pair: pair[0])
        if deepest < levels:
            break
    return best[1], streams


def _proposal(tensor: IntegerTensor, sparse: bool, step_bits: float) -> Proposal:
    """One tensor, with the number of low bits that makes it smallest."""
    largest = int(np.abs(tensor.integers).max(initial=0))
    wide = largest > LARGEST
    histograms: dict[int, tuple[_Counts, ...]] = {}
    costs: dict[int, float] = {}
    ((steps, elements),) = Bundle((Group((tensor,), sparse, 0, wide),)).told
    ahead, kept = [_counts(steps)] if sparse else [], _counts(elements)
    for low in _LOW_BITS:
        group = Group((tensor,), sparse, low, wide)
        counts = (*ahead, _counts(group.codes(kept.values), kept.counts))
        if all(_fits(c) for c in counts):
            histograms[low] = counts
            codes = (grown(*c, step_bits, _LEVELS)[1] + _VALUE_BITS * c.values.size for c in counts)
            costs[low] = sum(codes) + float(low * elements.size)
    best = min(costs, key=costs.__getitem__, default=0)
    return Proposal(Group((tensor,), sparse, best, wide), histograms, costs.get(best, math.inf))


def _merged(proposals: list[Proposal], step_bits: float) -> list[Proposal]:
    """Pairs become one, the best first, as long as that saves bytes."""
    known = [_joined([proposal], step_bits) for proposal in proposals]
    pairs: dict[tuple[int, int], tuple[float, Proposal]] = {}

    def weigh(first: int, second: int) -> None:
        both = _joined([known[first], known[second]], step_bits)
        pairs[first, second] = (
            known[first].bits + known[second].bits + _GROUP_BITS - both.bits,
            both,
        )

    for second in range(len(known)):
        for first in range(second):
            weigh(first, second)
    gone: set[int] = set()
    while pairs:
        best = max(pairs, key=lambda pair: pairs[pair][0])
        saving, both = pairs[best]
        if saving <= 0:
            break
        gone.update(best)
        pairs = {pair: found for pair, found in pairs.items() if not gone.intersection(pair)}
        known.append(both)
        for place in range(len(known) - 1):
            if place not in gone:
                weigh(place, len(known) - 1)
    return [proposal for place, proposal in enumerate(known) if place not in gone]


def _joined(proposals: Sequence[Proposal], step_bits: float) -> Proposal:
    """One group of all, with the number of low bits that makes the whole smallest."""
    lows = set.intersection(*(set(proposal.histograms) for proposal in proposals))
    tensors = tuple(t for proposal in proposals for t in proposal.group.tensors)
    if not lows:
        return replace(proposals[0], histograms={}, bits=math.inf)
    histograms = {
        low: tuple(map(_sum, zip(*(p.histograms[low] for p in proposals), strict=True)))
        for low in lows
    }
    bits = {low: _estimate(low, histograms[low], step_bits) for low in sorted(lows)}
    best = min(bits, key=bits.__getitem__)
    group = replace(proposals[0].group, tensors=tensors, low=best)
    return Proposal(group, histograms, bits[best])


def _estimate(low: int, histograms: Sequence[_Counts], step_bits: float) -> float:
    """Bits of code and table, and of the steps: Shannon's, or one a symbol where that is more."""
    bits = float(low * histograms[-1].counts.sum())
    for values, counts in histograms:
        total = float(counts.sum())
        shannon = max(float(counts @ np.log2(total / counts)), total)
        # A first digit is as wide as pays; of the rest each bit is a step.
        steps = total + max(0.0, shannon - 2 * total)
        bits += shannon + step_bits * steps + _VALUE_BITS * values.size
    return bits


def _counts(symbols: Integers, each: Integers | None = None) -> _Counts:
    """How often each value occurs in `symbols`, of which each stands for so many."""
    low = int(symbols.min(initial=0))
    counts = np.bincount(symbols - low, each).astype(np.int64)
    used = np.flatnonzero(counts)
    return _Counts(used + low, counts[used])


def _fits(counts: _Counts) -> bool:
    values = counts.values
    return values.size > 0 and bool(values[0] >= -LARGEST and values[-1] <= LARGEST)


def _sum(parts: tuple[_Counts, ...]) -> _Counts:
    return _counts(*map(np.concatenate, zip(*parts, strict=True)))


def _sparse(integers: Integers) -> tuple[Integers, Integers]:
    """(places from one kept element to the next, kept elements); the first from before the start.

    Where that is too far, zeros between them are kept. Zeros at the end are not told.
    """
    places = np.flatnonzero(integers)
    steps = np.diff(places, prepend=-1)
    extra = (steps - 1) // FARTHEST
    ahead = np.full(places.size + int(extra.sum()), FARTHEST, np.int64)
    kept = np.zeros(ahead.size, np.int64)
    ends = np.arange(places.size) + np.cumsum(extra)
    ahead[ends] = steps - extra * FARTHEST
    kept[ends] = integers[places]
    return ahead, kept
