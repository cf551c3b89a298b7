"""What a pruned net may cost, as a fraction of what it costs now, and the channels that stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from compress.candidate import Candidate
from compress.errors import RangeError
from compress.pruning.choosing import Descent, Rules, fastest_within, within
from compress.pruning.costs import Costs
from compress.pruning.coupled import CoupledSet, Numbers
from compress.pruning.ladders import ladders
from compress.pruning.losses import Losses
from compress.pruning.removal import remove


@dataclass(frozen=True)
class LatencyBudget:
    """At most `fraction`, in (0, 1), of what `measure` gives now.

    measure: a candidate's latency in ms. Its repr stands in reports and decides whether a resumed
    run is the same: it must name all that the figure depends on, as a dataclass's does.
    """

    measure: Callable[[Candidate], float]
    fraction: float


@dataclass(frozen=True)
class Budget:
    """kind: what is limited to `fraction` of itself; `measure` for latency alone."""

    kind: Literal["macs", "parameters", "latency"]
    fraction: float
    measure: Callable[[Candidate], float] | None = None

    def __str__(self) -> str:
        return f"{self.kind}={self.fraction:g}"


def budget_of(
    asker: str, macs: float | None, parameters: float | None, latency: LatencyBudget | None
) -> Budget | None:
    """The one of them that is given, None for none; RangeError for several or a wrong one."""
    given: list[Budget] = []
    for kind, value in (("macs", macs), ("parameters", parameters)):
        if value is not None:
            given.append(Budget("macs" if kind == "macs" else "parameters", value))
    if latency is not None:
        if type(latency) is not LatencyBudget or not callable(latency.measure):
            raise RangeError(
                f"{asker}(latency={latency!r}): LatencyBudget(measure, fraction) is needed"
            )
        given.append(Budget("latency", latency.fraction, latency.measure))
    if len(given) > 1:
        raise RangeError(f"{asker}({', '.join(map(str, given))}): give one of them")
    for one in given:
        if type(one.fraction) not in (int, float) or not 0 < one.fraction < 1:
            raise RangeError(
                f"{asker}({one.kind}={one.fraction!r}): allowed are fractions of the net's own, "
                f"above 0 and below 1"
            )
    return given[0] if given else None


@dataclass(frozen=True, eq=False)
class Chooser:
    """round_to, floor: see `ladders`; rules: how the price is made; asker: for errors."""

    rules: Rules
    round_to: int
    floor: float
    asker: str

    def kept(
        self, candidate: Candidate, sets: Sequence[CoupledSet], losses: Losses, budget: Budget
    ) -> dict[str, Numbers]:
        """By set name the channels that stay, of sets that lose some.

        RangeError where the budget cannot be met, with the nearest that can.
        """
        kind = "parameters" if budget.kind == "parameters" else "macs"
        costs = Costs(candidate, sets, kind)
        rungs = ladders(candidate, sets, self.round_to, self.floor)
        descent = Descent(rungs, losses, costs, self.rules)
        asked = f"{self.asker}({budget})"
        if budget.measure is None:
            return within(descent, budget.fraction, asked)
        measure = budget.measure
        whole = _checked(measure(candidate), asked)

        def of(kept: Mapping[str, Numbers]) -> float:
            return _checked(measure(remove(candidate, kept)), asked)

        return fastest_within(descent, of, budget.fraction * whole, asked)


def _checked(latency_ms: float, asked: str) -> float:
    if not 0 < latency_ms < float("inf"):
        raise RangeError(f"{asked}: the latency measured is {latency_ms} ms; it must be above 0")
    return latency_ms
