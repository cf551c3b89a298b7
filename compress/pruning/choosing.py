"""Which channels stay: a budget met by one price over all coupled sets, or the same cut for each.

Globally, channels go in the order of what their loss is for each MAC (or parameter) saved, both as
they are at that moment: one price for all sets. It is what separable resource allocation does
(Everett 1963), taken step by step because each step changes the next one's loss and saving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compress.errors import RangeError
from compress.pruning.costs import Costs
from compress.pruning.coupled import Numbers
from compress.pruning.ladders import Ladder, Rung
from compress.pruning.losses import Losses

Scope = Literal["global", "uniform"]
Gone = Mapping[str, Numbers]


@dataclass(frozen=True)
class Rules:
    """scope: one price for all, or the same fraction of each set. per_saving: losses are divided by
    what is saved; else by the number of channels, for scores that are normalised by set."""

    scope: Scope = "global"
    per_saving: bool = True


@dataclass
class Descent:
    """Ladders under way: which channels are left, and the steps taken, in order."""

    ladders: Sequence[Ladder]
    losses: Losses
    costs: Costs
    rules: Rules

    def __post_init__(self) -> None:
        sets = [one for ladder in self.ladders for one in ladder.sets]
        self._left = {one.name: np.ones(one.channels, np.bool_) for one in sets}
        self._rung = [0] * len(self.ladders)
        self.steps: list[Gone] = []

    def kept(self, steps: int | None = None) -> dict[str, Numbers]:
        """Channels by set after so many of the steps (all): those sets that lost some."""
        sets = [one for ladder in self.ladders for one in ladder.sets]
        left = {one.name: np.ones(one.channels, np.bool_) for one in sets}
        for gone in self.steps[:steps]:
            for name, channels in gone.items():
                left[name][channels] = False
        return {name: np.flatnonzero(held) for name, held in left.items() if not held.all()}

    def down_to(self, budget: int) -> bool:
        """Step until the cost is at most `budget`; False where no step is left before."""
        return self._uniform(budget) if self.rules.scope == "uniform" else self._priced(budget)

    def _priced(self, budget: int) -> bool:
        while self.costs.now > budget:
            offers = [(n, self._next(n)) for n in range(len(self.ladders))]
            priced = [(self._price(step[1]), n, step) for n, step in offers if step is not None]
            if not priced:
                return False
            _, number, step = min(priced, key=lambda one: one[:2])
            self._take(number, step)
        return True

    def _uniform(self, budget: int) -> bool:
        """All sets to the greatest common fraction that meets the budget."""
        fractions = sorted({f for la in self.ladders for f in _fractions(la)}, reverse=True)
        for fraction in fractions:
            for number, ladder in enumerate(self.ladders):
                while _fractions(ladder)[self._rung[number]] > fraction:
                    step = self._next(number)
                    if step is None:
                        break
                    self._take(number, step)
            if self.costs.now <= budget:
                return True
        return False

    def _next(self, number: int) -> tuple[int, Gone] | None:
        """The next rung that can be reached, and the cheapest channels to go for it."""
        ladder = self.ladders[number]
        for rung in range(self._rung[number] + 1, len(ladder.rungs)):
            gone = self._cheapest(ladder, ladder.rungs[rung])
            if gone is not None:
                return rung, gone
        return None

    def _cheapest(self, ladder: Ladder, rung: Rung) -> Gone | None:
        """None where a class has fewer left than the rung takes of it."""
        found: dict[str, Numbers] = {}
        for one, quota in zip(ladder.sets, rung.quotas, strict=True):
            left, each = np.flatnonzero(self._left[one.name]), self.losses.each(one.name)
            gone: list[Numbers] = []
            for number, count in enumerate(quota.tolist()):
                own = left[one.classes[left] == number]
                if len(own) < count:
                    return None
                gone.append(own[np.argsort(each[own], kind="stable")[: len(own) - count]])
            found[one.name] = np.sort(np.concatenate(gone))
        return found

    def _price(self, gone: Gone) -> float:
        loss = sum(float(self.losses.each(name)[channels].sum()) for name, channels in gone.items())
        if self.rules.per_saving:
            return loss / max(1, self.costs.saving(gone))
        return loss / max(1, sum(map(len, gone.values())))

    def _take(self, number: int, step: tuple[int, Gone]) -> None:
        self._rung[number], gone = step
        self.costs.drop(gone)
        for name, channels in gone.items():
            self.losses.drop(name, channels)
            self._left[name][channels] = False
        self.steps.append(gone)


def _fractions(ladder: Ladder) -> list[float]:
    return [rung.numbers[0] / ladder.sets[0].channels for rung in ladder.rungs]


def within(descent: Descent, fraction: float, asked: str) -> dict[str, Numbers]:
    """The channels that stay for at most `fraction` of the cost of the whole net.

    RangeError beginning with `asked` where the sets cannot give so much, with what they can.
    """
    whole = descent.costs.whole
    budget = int(fraction * whole)
    budget += (budget + 1) / whole <= fraction  # where rounding took one away
    if not descent.down_to(budget):
        least = _up(descent.costs.now / whole)
        asked = f"{asked}: with these layers, round_to and floor"
        if least >= 1:
            raise RangeError(f"{asked} no channel can go; let more layers in, or lower the others")
        raise RangeError(
            f"{asked} nothing below {least:g} of the net's can be reached; allowed are {least:g} "
            f"to 1"
        )
    return descent.kept()


def fastest_within(
    descent: Descent, measure: Callable[[Mapping[str, Numbers]], float], limit: float, asked: str
) -> dict[str, Numbers]:
    """The channels that stay where `measure` of them first falls to `limit`.

    The order is the descent's own, that of its costs; `measure` is asked for about log2 of the
    steps. RangeError as `within`.
    """
    descent.down_to(0)
    low, high = 0, len(descent.steps)
    least = measure(descent.kept())
    if least > limit:
        raise RangeError(
            f"{asked}: {limit:.4g} ms are asked for, and with these layers, round_to and floor no "
            f"less than {least:.4g} ms can be reached; ask for more"
        )
    while high - low > 1:
        middle = (low + high) // 2
        if measure(descent.kept(middle)) <= limit:
            high = middle
        else:
            low = middle
    return descent.kept(high)


def _up(fraction: float) -> float:
    """Rounded up to four digits, so that what is said can be reached."""
    return float(np.ceil(fraction * 10_000) / 10_000)
