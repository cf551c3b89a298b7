"""One price over all layers: within the budget, and as good as trying every combination."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from compress.factoring.choosing import Menu, choose_forms, least

numbers = st.floats(0, 100, allow_nan=False)
menus = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).map(
    lambda pairs: Menu(np.array([c for c, _ in pairs]), np.array([e for _, e in pairs]))
)


# Costs that no price tells apart, of which two are equal.
TINY = Menu(np.array([0.0, 2e-289, 0.0]), np.array([2.0, 0.0, 1.0]))


@given(st.lists(menus, min_size=1, max_size=3), st.floats(0, 1))
@example([TINY], 0.0)
def test_within_the_budget_and_near_the_best(several: list[Menu], share: float) -> None:
    most = sum(float(menu.costs.max()) for menu in several)
    budget = least(several) + share * (most - least(several))
    chosen = choose_forms(several, budget)
    picked = list(zip(several, chosen, strict=True))
    assert sum(menu.costs[form] for menu, form in picked) <= budget * (1 + 1e-9) + 1e-9
    # No single other form is better and still fits.
    left = budget - sum(menu.costs[form] for menu, form in picked)
    for menu, form in picked:
        fits = menu.costs - menu.costs[form] <= left
        assert menu.errors[fits].min(initial=np.inf) >= menu.errors[form] or not fits.any()


def test_convex_curves_are_divided_as_the_best_combination_is() -> None:
    steps = np.arange(9.0)
    several = [Menu(steps, worth * (8 - steps) ** 2) for worth in (1.0, 2.0, 5.0)]
    for budget in range(25):
        chosen = choose_forms(several, float(budget))
        error = sum(m.errors[f] for m, f in zip(several, chosen, strict=True))
        best = min(
            sum(m.errors[f] for m, f in zip(several, forms, strict=True))
            for forms in itertools.product(range(9), repeat=3)
            if sum(forms) <= budget
        )
        assert error <= best * 1.15 + 1e-9
    assert choose_forms(several, 24.0) == (8, 8, 8)
    assert choose_forms(several, 0.0) == (0, 0, 0)
