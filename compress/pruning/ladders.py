"""The numbers of channels that each bundle of coupled sets may be cut to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compress.pruning.coupled import CoupledSet

# No more steps than these from all channels to none: for wide layers a step is several channels.
STEPS = 128


@dataclass(frozen=True, eq=False)
class Ladder:
    """Sets that are cut together. `rungs`: numbers of channels of each set, falling; the first
    rung is all of them."""

    sets: tuple[CoupledSet, ...]
    rungs: tuple[tuple[int, ...], ...]


def ladders(sets: Sequence[CoupledSet], round_to: int, floor: float) -> tuple[Ladder, ...]:
    """One for each bundle, in the order of the sets.

    round_to: every number but the first is a multiple of it. floor: at least this fraction of a
    set's channels is in every rung, and at least one.
    """
    bundles: dict[str, list[CoupledSet]] = {}
    for one in sets:
        bundles.setdefault(one.bundle, []).append(one)
    return tuple(_ladder(tuple(bundle), round_to, floor) for bundle in bundles.values())


def _ladder(sets: tuple[CoupledSet, ...], round_to: int, floor: float) -> Ladder:
    whole = tuple(one.channels for one in sets)
    # A fraction t / parts of each is a multiple that the set allows.
    parts = math.gcd(*(one.channels // one.multiple for one in sets))
    if len(sets) == 1:
        unit = math.lcm(sets[0].multiple, round_to)
        unit *= max(1, math.ceil(whole[0] / unit / STEPS))
        below = [(n,) for n in range(unit, whole[0], unit)]
    else:
        every = max(1, math.ceil(parts / STEPS))
        below = [tuple(n * t // parts for n in whole) for t in range(every, parts, every)]
        below = [rung for rung in below if all(n % round_to == 0 for n in rung)]
    least = [max(1, math.ceil(floor * n)) for n in whole]
    fitting = [r for r in below if all(n >= low for n, low in zip(r, least, strict=True))]
    return Ladder(sets, (whole, *reversed(fitting)))
