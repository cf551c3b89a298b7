"""Adam, then SGD: when, at which rate, and with what state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import RangeError
from compress.task import Tuning
from recipes.toolbox.optimizing import Optimizing, Schedule
from recipes.toolbox.rates import rate_factor

EPOCHS, STEPS = 4, 5


def schedule(**settings: Any) -> Schedule:
    plain: dict[str, Any] = {
        "optimizer": "adam-sgd",
        "rate": "cosine",
        "warm_up": 0.0,
        "weight_decay": 0.0,
        "switch": 0.5,
        "sgd_rate": None,
    }
    return Schedule(**{**plain, **settings})


def optimizing(settings: Schedule, seed: int = 0) -> tuple[nn.Module, Optimizing]:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return model, Optimizing(model, Tuning(EPOCHS, 1e-2, 0, None), settings)


def epoch(model: nn.Module, used: Optimizing, number: int, slope: float = 1.0) -> list[Any]:
    """One epoch on a loss whose gradient is `slope` everywhere; the optimizers that stepped."""
    used.begin(number)
    stepped = []
    for step in range(STEPS):
        used.zero_grad()
        (slope * sum(p.sum() for p in model.parameters())).backward()
        used.step((number * STEPS + step) / (EPOCHS * STEPS))
        stepped.append(used._current)
    return stepped


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({"optimizer": "adam"}, "aaaa"),
        ({"optimizer": "sgd"}, "ssss"),
        ({}, "aass"),
        ({"switch": 0.8}, "aaas"),
        ({"switch": 0.01}, "asss"),
    ],
)
def test_sgd_follows_adam_at_the_switch(settings: dict[str, Any], kinds: str) -> None:
    model, used = optimizing(schedule(**settings))
    found = [epoch(model, used, number) for number in range(EPOCHS)]
    names = {"a": torch.optim.Adam, "s": torch.optim.SGD}
    for stepped, kind in zip(found, kinds, strict=True):
        assert {type(o) for o in stepped} == {names[kind]}


def test_sgd_goes_on_at_the_rate_of_adams_steps() -> None:
    """With a gradient of 0.02 everywhere Adam steps by its rate: as plain SGD at rate / 0.02."""
    slope = 0.02
    model, used = optimizing(schedule())
    for number in range(2):
        epoch(model, used, number, slope)
    stepped = epoch(model, used, 2, slope)
    momentum = 0.9
    peak = (1 - momentum) * 1e-2 / slope
    factor = rate_factor("cosine", (2 * STEPS + STEPS - 1) / (EPOCHS * STEPS))
    for group in stepped[-1].param_groups:
        assert group["lr"] == pytest.approx(peak * factor, rel=1e-3)
        assert group["momentum"] == momentum


def test_a_given_rate_is_the_peak() -> None:
    model, used = optimizing(schedule(sgd_rate=0.5, rate="linear"))
    epoch(model, used, 1)
    assert used.state()["swats"] == [0.0, 0], "nothing is learnt that is not needed"
    stepped = epoch(model, used, 2)
    last = (2 * STEPS + STEPS - 1) / (EPOCHS * STEPS)
    assert stepped[0].param_groups[0]["lr"] == pytest.approx(0.5 * (1 - last))


def test_no_rate_without_a_step_down_the_gradient() -> None:
    model, used = optimizing(schedule())
    epoch(model, used, 0, slope=0.0)
    with pytest.raises(RangeError, match="give sgd_rate"):
        epoch(model, used, 2)


def test_weight_decay_leaves_biases_alone() -> None:
    _, used = optimizing(schedule(optimizer="sgd", weight_decay=0.1))
    decays = {
        p.ndim: group["weight_decay"]
        for group in used._current.param_groups
        for p in group["params"]
    }
    assert decays == {2: 0.1, 1: 0.0}


@pytest.mark.parametrize("done", [1, 2, 3])
def test_state_goes_on_in_another_object(done: int) -> None:
    """Before, at and after the switch."""

    def ended(until: int, go_on: Callable[[nn.Module, Optimizing], Any]) -> list[np.ndarray]:
        model, used = optimizing(schedule())
        for number in range(until):
            epoch(model, used, number, 0.5)
        model, used = go_on(model, used)
        for number in range(until, EPOCHS):
            epoch(model, used, number, 0.5)
        return [p.detach().numpy() for p in model.parameters()]

    def moved(model: nn.Module, used: Optimizing) -> tuple[nn.Module, Optimizing]:
        other, fresh = optimizing(schedule(), seed=1)
        other.load_state_dict(model.state_dict())
        fresh.restore(used.state(), done)
        return other, fresh

    whole = ended(done, lambda model, used: (model, used))
    for a, b in zip(whole, ended(done, moved), strict=True):
        np.testing.assert_array_equal(a, b)
