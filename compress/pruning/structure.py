"""What is known of a net before it is cut: its labels, its coupled sets, and what must stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from compress.candidate import Candidate, Skipped
from compress.network import TorchNetwork
from compress.pruning.coupled import CoupledSet
from compress.pruning.following import Followed, follow
from compress.pruning.grouping import LabelledSet, Touched, grouped, touched
from compress.pruning.narrowing import UnfitError, narrowed


@dataclass(frozen=True, eq=False)
class Structure:
    """What is known of a net: its labels, its sets, and what no set has, with the reason."""

    followed: Followed
    at: Touched
    sets: tuple[LabelledSet, ...]
    skipped: tuple[Skipped, ...]


_STRUCTURES: WeakKeyDictionary[TorchNetwork, Structure] = WeakKeyDictionary()


def coupled_sets(candidate: Candidate) -> tuple[tuple[CoupledSet, ...], tuple[Skipped, ...]]:
    """(sets whose channels can be removed, layers whose channels must stay and why).

    A layer may be among both: where it writes some channels that can go and some that cannot.
    """
    known = structure(candidate)
    return tuple(one.coupled for one in known.sets), known.skipped


def structure(candidate: Candidate) -> Structure:
    """What `coupled_sets` tells, with the labels; kept as long as the candidate's network."""
    if candidate.network not in _STRUCTURES:
        followed = follow(candidate.network.graph)
        sets, skipped = grouped(candidate, followed)
        sets, unfit = _that_fit(candidate, followed, sets)
        found = Structure(followed, touched(followed), tuple(sets), (*skipped, *unfit))
        _STRUCTURES[candidate.network] = found
    return _STRUCTURES[candidate.network]


def least(one: CoupledSet) -> int:
    """The fewest channels that a set can have: a depthwise convolution of one would be dense."""
    return max(one.multiple, 2 if one.channels > 1 else 1)


def fitting(one: CoupledSet, number: float) -> int:
    """The multiple nearest to `number` that the set can have."""
    nearest = round(number / one.multiple) * one.multiple
    return min(max(nearest, -(-least(one) // one.multiple) * one.multiple), one.channels)


def _that_fit(
    candidate: Candidate, followed: Followed, sets: Sequence[LabelledSet]
) -> tuple[list[LabelledSet], list[Skipped]]:
    """The sets at whose cut the net still runs; for others why it does not."""
    whole = {one.coupled.name: one.coupled.channels for one in sets}
    cut = {one.coupled.name: fitting(one.coupled, one.coupled.channels // 2) for one in sets}
    if _failure(candidate, followed, sets, cut) is None:
        return list(sets), []
    unfit: dict[str, str] = {}
    for bundle in {one.coupled.bundle for one in sets}:
        names = [one.coupled.name for one in sets if one.coupled.bundle == bundle]
        reason = _failure(candidate, followed, sets, {**whole, **{n: cut[n] for n in names}})
        if reason is not None:
            unfit.update(dict.fromkeys(names, f"the net does not run with fewer: {reason}"))
    kept = [one for one in sets if one.coupled.name not in unfit]
    rest = {**whole, **{one.coupled.name: cut[one.coupled.name] for one in kept}}
    together = _failure(candidate, followed, sets, rest)
    if together is not None:
        unfit.update({one.coupled.name: f"the net does not run: {together}" for one in kept})
        kept = []
    gone = [one for one in sets if one.coupled.name in unfit]
    return kept, [Skipped(n, unfit[one.coupled.name]) for one in gone for n in one.coupled.layers]


def _failure(
    candidate: Candidate,
    followed: Followed,
    sets: Sequence[LabelledSet],
    numbers: Mapping[str, int],
) -> str | None:
    try:
        narrowed(candidate, followed, sets, numbers)
    except UnfitError as error:
        return str(error)
    return None
