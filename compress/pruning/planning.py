"""How many channels of each class a narrower net takes: its own splits and shuffles decide.

The empty net of the new widths is followed as the old one was. Where a channel of it goes, a
channel of the old net must have gone: the fates of both are compared, and what is taken out of a
class may be any of its channels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from compress.candidate import Candidate
from compress.errors import ExportError, RangeError
from compress.graph import Graph
from compress.keep_channels import SetWidth
from compress.network import TorchNetwork
from compress.pruning.coupled import CoupledSet, Numbers
from compress.pruning.following import Followed, follow
from compress.pruning.grouping import Fate, Touched, touched
from compress.pruning.narrowing import UnfitError, narrowed
from compress.pruning.structure import Structure, fitting, least, structure
from compress.trace import trace

_TRIES = 8
_FURTHER = (0, 2, 5, 10, 20, 40)


@dataclass(frozen=True, eq=False)
class Plan:
    """A narrower net that works.

    numbers: channels of each set, which may differ from those asked for where the net does not
    take these. quotas: (classes,) channels of each class of a set. The rest is the new net's
    structure, for `remove`.
    """

    numbers: Mapping[str, int]
    quotas: Mapping[str, Numbers]
    graph: Graph
    followed: Followed
    at: Touched
    widths: tuple[SetWidth, ...]


_PLANS: WeakKeyDictionary[TorchNetwork, dict[tuple[tuple[str, int], ...], Plan]] = (
    WeakKeyDictionary()
)


def planned(candidate: Candidate, numbers: Mapping[str, int], whole: bool = True) -> Plan:
    """The net with that many channels in each named set; all of them in others.

    whole: False for `numbers` and `quotas` alone, in half the time: the graph is for one picture.

    Numbers that a set cannot have become the nearest that it can: multiples, equal fractions in a
    bundle, and what the net's own splits and shuffles take; a bundle that takes nothing near stays
    whole. RangeError for a name that is no set, or a number outside 1 to its channels.
    """
    known = structure(candidate)
    _check(known, numbers)
    asked = {s.name: numbers.get(s.name, s.channels) for s in _coupled(known)}
    key = tuple(sorted(asked.items()))
    plans = _PLANS.setdefault(candidate.network, {})
    if key not in plans:
        plan = _search(candidate, known, asked, whole)
        if not whole:
            return plan
        plans.clear()  # the last one only: a graph of a large net is large
        plans[key] = plans[tuple(sorted(plan.numbers.items()))] = plan
    return plans[key]


def best_kept(
    plan: Plan, sets: Sequence[CoupledSet], scores: Mapping[str, np.ndarray]
) -> dict[str, Numbers]:
    """Of each set the channels of the highest score, (channels,), as many of a class as fit."""
    kept: dict[str, Numbers] = {}
    for one in sets:
        chosen: list[Numbers] = []
        for number, count in enumerate(plan.quotas[one.name].tolist()):
            members = np.flatnonzero(one.classes == number)
            order = np.argsort(-np.asarray(scores[one.name], np.float64)[members], kind="stable")
            chosen.append(members[order[:count]])
        kept[one.name] = np.sort(np.concatenate(chosen))
    return kept


def likely_counts(sets: Sequence[CoupledSet], numbers: Mapping[str, int]) -> dict[str, Numbers]:
    """(classes,) of each set about how many of each class a net of these widths takes.

    In proportion, by largest remainders: without the seconds that `planned` needs for the exact
    numbers, which differ by one here and there.
    """
    found: dict[str, Numbers] = {}
    for one in sets:
        share = np.bincount(one.classes) * (numbers[one.name] / one.channels)
        counts = np.floor(share + 1e-9).astype(np.int64)
        left = numbers[one.name] - int(counts.sum())
        counts[np.argsort(counts - share, kind="stable")[:left]] += 1
        found[one.name] = counts
    return found


def _coupled(known: Structure) -> tuple[CoupledSet, ...]:
    return tuple(one.coupled for one in known.sets)


def _check(known: Structure, numbers: Mapping[str, int]) -> None:
    sizes = {one.name: one.channels for one in _coupled(known)}
    for name, number in numbers.items():
        if name not in sizes:
            raise RangeError(f"set {name!r} is not one of the net; they are: {', '.join(sizes)}")
        if not 1 <= number <= sizes[name]:
            raise RangeError(f"{number} channels of set {name!r}: allowed are 1 to {sizes[name]}")


def _search(candidate: Candidate, known: Structure, asked: Mapping[str, int], free: bool) -> Plan:
    """The first of each bundle's alternatives that all fit together."""
    bundles: dict[str, list[CoupledSet]] = {}
    for one in _coupled(known):
        bundles.setdefault(one.bundle, []).append(one)
    offers = {name: _alternatives(sets, asked) for name, sets in bundles.items()}
    now = {name: next(offer) for name, offer in offers.items()}
    for attempt in range(2 * _TRIES + 2):
        numbers = {name: n for bundle in now.values() for name, n in bundle.items()}
        try:
            return _plan(candidate, known, numbers, free)
        except _MisfitError as error:
            wrong = {s.bundle for s in _coupled(known) if s.name in error.sets} or set(now)
        for name in wrong:
            whole = {one.name: one.channels for one in bundles[name]}
            now[name] = next(offers[name], whole) if attempt < 2 * _TRIES else whole
    raise RangeError(
        "the net cannot be made narrower: its program does not run at other widths as it does at "
        "its own; name the layers to leave alone"
    )


class _MisfitError(Exception):
    """A net of these widths is not like the old one; `sets` are those that are to blame."""

    def __init__(self, sets: set[str]) -> None:
        super().__init__(", ".join(sorted(sets)))
        self.sets = sets


def _alternatives(sets: Sequence[CoupledSet], asked: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Numbers for the sets of a bundle: as asked, in multiples, then the nearest fractions."""
    yield {one.name: fitting(one, asked[one.name]) for one in sets}
    if len(sets) == 1:
        one, start = sets[0], fitting(sets[0], asked[sets[0].name])
        for step in range(1, _TRIES):
            for number in (start - step * one.multiple, start + step * one.multiple):
                if least(one) <= number <= one.channels:
                    yield {one.name: number}
        return
    shares = math.gcd(*(one.channels for one in sets))
    wanted = shares * sum(asked[s.name] for s in sets) / sum(s.channels for s in sets)
    steps = [t for t in range(1, shares) if _whole_multiples(sets, t, shares)]
    nearest = sorted(steps, key=lambda t: (abs(t - wanted), t))[:3]
    # A long row of shuffles takes no widths over a range: then ever further up.
    above = [t for t in steps if t > wanted and t not in nearest]
    for t in (*nearest, *(above[n] for n in _FURTHER if n < len(above))):
        yield {one.name: one.channels * t // shares for one in sets}


def _whole_multiples(sets: Sequence[CoupledSet], share: int, shares: int) -> bool:
    numbers = [(one, one.channels * share // shares) for one in sets]
    return all(n % one.multiple == 0 and n >= least(one) for one, n in numbers)


def _plan(candidate: Candidate, known: Structure, numbers: Mapping[str, int], free: bool) -> Plan:
    if all(numbers[one.name] == one.channels for one in _coupled(known)):
        return _as_it_is(candidate, known)
    try:
        model, widths = narrowed(candidate, known.followed, known.sets, numbers, "cpu")
        graph = trace(model, candidate.network.input_shape, free)
    except (UnfitError, ExportError) as error:
        raise _MisfitError(set()) from error
    followed = follow(graph)
    at = touched(followed)
    quotas = _quotas(known, at, numbers)
    return Plan(numbers, quotas, graph, followed, at, tuple(widths))


def _as_it_is(candidate: Candidate, known: Structure) -> Plan:
    quotas = {one.name: np.bincount(one.classes) for one in _coupled(known)}
    numbers = {one.name: one.channels for one in _coupled(known)}
    return Plan(numbers, quotas, candidate.network.graph, known.followed, known.at, ())


def _quotas(known: Structure, at: Touched, numbers: Mapping[str, int]) -> dict[str, Numbers]:
    """How many of the new net's channels have the fate of each class. Raises _MisfitError."""
    owners: dict[Fate, tuple[str, int]] = {}
    writers: dict[str, set[str]] = {}
    for one in known.sets:
        for label, number in zip(one.labels.tolist(), one.coupled.classes.tolist(), strict=True):
            owners[known.at.fates[label]] = (one.coupled.name, number)
        for layer in one.coupled.layers:
            writers.setdefault(f"{layer}.weight", set()).add(one.coupled.name)
    free = {label for one in known.sets for label in one.labels.tolist()}
    staying = Counter(fate for label, fate in known.at.fates.items() if label not in free)
    quotas = {s.name: np.zeros(int(s.classes.max()) + 1, np.int64) for s in _coupled(known)}
    wrong: set[str] = set()
    found: Counter[Fate] = Counter()
    for fate in at.fates.values():
        if fate in owners:
            name, number = owners[fate]
            quotas[name][number] += 1
        elif fate in staying:
            found[fate] += 1
        else:
            wrong |= {name for t, a, _, _ in fate if a == 0 for name in writers.get(t, ())}
    for one in _coupled(known):
        available = np.bincount(one.classes)
        if quotas[one.name].sum() != numbers[one.name] or (quotas[one.name] > available).any():
            wrong.add(one.name)
    if wrong or found != staying:
        raise _MisfitError(wrong)
    return quotas
