"""The numbers of channels that each bundle of coupled sets may be cut to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compress.candidate import Candidate
from compress.pruning.coupled import CoupledSet, Numbers
from compress.pruning.planning import Plan, planned
from compress.pruning.structure import fitting, least

# No more steps than these from all channels to none: for wide layers a step is several channels.
STEPS = 128
# Where the pruned net says how many of each class stay, each step follows a net of its own.
PLANNED_STEPS = 16
# numbers of channels by set -> the plan of a net that has them, or the nearest it can have.
Planner = Callable[[Mapping[str, int]], Plan]


@dataclass(frozen=True, eq=False)
class Rung:
    """numbers: channels of each set of the bundle. quotas: of each set how many of each class."""

    numbers: tuple[int, ...]
    quotas: tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class Ladder:
    """Sets that are cut together, and their rungs, of falling numbers; the first has all."""

    sets: tuple[CoupledSet, ...]
    rungs: tuple[Rung, ...]


def ladders(
    candidate: Candidate, sets: Sequence[CoupledSet], round_to: int, floor: float
) -> tuple[Ladder, ...]:
    """One for each bundle, in the order of the sets.

    round_to: every number but the first is a multiple of it. floor: at least this fraction of a
    set's channels is in every rung.
    """
    bundles: dict[str, list[CoupledSet]] = {}
    for one in sets:
        bundles.setdefault(one.bundle, []).append(one)
    tables = _planned_rungs(
        bundles, lambda numbers: planned(candidate, numbers, whole=False), floor
    )
    found: list[Ladder] = []
    for name, bundle in bundles.items():
        rungs = tables.get(name) or _free_rungs(bundle, round_to)
        whole = Rung(
            tuple(s.channels for s in bundle), tuple(np.bincount(s.classes) for s in bundle)
        )
        below = [rung for rung in rungs if _fits(rung, whole, round_to, floor)]
        found.append(Ladder(tuple(bundle), (whole, *below)))
    return tuple(found)


def _fits(rung: Rung, whole: Rung, round_to: int, floor: float) -> bool:
    pairs = list(zip(rung.numbers, whole.numbers, strict=True))
    fewer = any(n < of for n, of in pairs)
    rounded = all(n % round_to == 0 or n == of for n, of in pairs)
    return fewer and rounded and all(n >= math.ceil(floor * of) for n, of in pairs)


def _free_rungs(bundle: Sequence[CoupledSet], round_to: int) -> list[Rung]:
    """Of sets of one class each: what their multiples and round_to allow."""
    if len(bundle) == 1:
        (one,) = bundle
        unit = math.lcm(one.multiple, round_to)
        unit *= max(1, math.ceil(one.channels / unit / STEPS))
        numbers = [(n,) for n in range(unit, one.channels, unit) if n >= least(one)]
    else:
        parts = math.gcd(*(one.channels // one.multiple for one in bundle))
        every = max(1, math.ceil(parts / STEPS))
        steps = [[s.channels * t // parts for s in bundle] for t in range(every, parts, every)]
        numbers = [
            tuple(n) for n in steps if all(m >= least(s) for m, s in zip(n, bundle, strict=True))
        ]
    return [Rung(n, tuple(np.array([m]) for m in n)) for n in reversed(numbers)]


def _planned_rungs(
    bundles: Mapping[str, Sequence[CoupledSet]], planner: Planner, floor: float
) -> dict[str, list[Rung]]:
    """Of bundles with sets of several classes: what narrower nets take. All are tried at once."""
    several = {name: sets for name, sets in bundles.items() if any(s.classes.any() for s in sets)}
    found: dict[str, dict[tuple[int, ...], Rung]] = {name: {} for name in several}
    shares = np.linspace(1.0, floor, PLANNED_STEPS + 1)[1:] if several else []
    for share in shares:
        asked = {s.name: fitting(s, share * s.channels) for sets in several.values() for s in sets}
        plan = planner(asked)
        for name, sets in several.items():
            numbers = tuple(plan.numbers[s.name] for s in sets)
            found[name][numbers] = Rung(numbers, tuple(plan.quotas[s.name] for s in sets))
    return {name: [of[n] for n in sorted(of, reverse=True)] for name, of in found.items()}
