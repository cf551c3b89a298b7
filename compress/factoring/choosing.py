"""Which of several forms each layer takes, so that all together keep within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Menu:
    """The forms of one layer: costs and errors, (k,), both at least 0; one costs least."""

    costs: Floats
    errors: Floats

    def at(self, price: float) -> int:
        """The form of the least error + price * cost; of equals the one of the least error."""
        total = self.errors + price * self.costs
        best = np.flatnonzero(total == total.min())
        return int(best[self.errors[best].argmin()])


def least(menus: Sequence[Menu]) -> float:
    """What the layers cost together at their cheapest."""
    return sum(float(menu.costs.min()) for menu in menus)


def choose_forms(menus: Sequence[Menu], budget: float) -> tuple[int, ...]:
    """A form of each, together at most `budget`, which is at least `least(menus)`.

    All pay one price: the last unit of cost saved adds the same error everywhere (Everett 1963,
    "Generalized Lagrange multiplier method"). What the price leaves of the budget, since forms come
    in steps, is spent where it takes away most error.
    """
    assert least(menus) <= budget
    if _total(menus, chosen := _at(menus, 0.0)) <= budget:
        return chosen
    low, high = _ends(menus)
    if _total(menus, _at(menus, high)) > budget:
        return _filled(menus, [int(menu.costs.argmin()) for menu in menus], budget)
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        if _total(menus, _at(menus, middle)) <= budget:
            high = middle
        else:
            low = middle
    return _filled(menus, list(_at(menus, high)), budget)


def _filled(menus: Sequence[Menu], chosen: list[int], budget: float) -> tuple[int, ...]:
    left = budget - _total(menus, tuple(chosen))
    while True:
        best: tuple[float, int, int] | None = None
        for number, (menu, now) in enumerate(zip(menus, chosen, strict=True)):
            more = menu.costs - menu.costs[now]
            gain = np.where(more <= left, menu.errors[now] - menu.errors, -1.0)
            form = int(gain.argmax())
            if gain[form] > 0 and (best is None or gain[form] > best[0]):
                best = float(gain[form]), number, form
        if best is None:
            return tuple(chosen)
        _, number, form = best
        left -= float(menus[number].costs[form] - menus[number].costs[chosen[number]])
        chosen[number] = form


def _ends(menus: Sequence[Menu]) -> tuple[float, float]:
    """Prices below and above which nothing changes."""
    errors = [float(menu.errors.max()) for menu in menus]
    costs = [float(menu.costs.max()) for menu in menus]
    scale = max(errors) / max(*costs, 1.0) or 1.0
    return scale * 1e-15, scale * max(*costs, 1.0) * 1e3


def _at(menus: Sequence[Menu], price: float) -> tuple[int, ...]:
    return tuple(menu.at(price) for menu in menus)


def _total(menus: Sequence[Menu], chosen: Sequence[int]) -> float:
    return sum(float(menu.costs[form]) for menu, form in zip(menus, chosen, strict=True))
