"""LSQ by hand: values, gradients inside and outside the grid, and what a step's gradient does."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.candidate import ActivationQuant
from compress.fake_quant import FARTHEST, fake_quantized, step_of
from compress.simulate import on_grid

BASE = torch.tensor(0.5)
# Ratios to the step: -4.4 and 9 lie outside of -3..7, 2.5 and 3.5 round half to even.
VALUES = [-2.2, -0.6, 0.1, 1.25, 1.75, 4.5]
ENDS = (-3, 7)


def quantized(
    values: list[float], learnt: float = 0.0, features: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    value = torch.tensor(values, requires_grad=True)
    step = torch.tensor(learnt, requires_grad=True)
    return fake_quantized(value, BASE, step, ENDS, features), value, step


def test_values_are_rounded_half_to_even_between_the_ends() -> None:
    found, _, _ = quantized(VALUES)
    assert found.tolist() == [-1.5, -0.5, 0.0, 1.0, 2.0, 3.5]


def test_a_values_gradient_is_its_own_where_rounding_alone_decides() -> None:
    found, value, _ = quantized(VALUES)
    found.backward(torch.arange(1.0, 7.0))
    assert value.grad is not None
    assert value.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]


def test_a_steps_gradient_is_equation_3() -> None:
    found, _, step = quantized(VALUES, features=9)
    found.backward(torch.ones(6))
    inside = [round(v / 0.5) - v / 0.5 for v in VALUES[1:-1]]
    expected = (-3 + sum(inside) + 7) / math.sqrt(9 * 7) / 0.5
    assert step.grad is not None
    assert float(step.grad) == pytest.approx(expected, rel=1e-5)


def test_a_descent_changes_the_step_by_as_large_a_part_as_lsq() -> None:
    rate, gradient = 1e-4, torch.linspace(-1, 1, 6)
    found, _, step = quantized(VALUES)
    found.backward(gradient)
    assert step.grad is not None
    ours = step_of(BASE, -rate * step.grad)
    s = torch.tensor(0.5, requires_grad=True)
    v = torch.tensor(VALUES) / s
    inside = v.round() == v.round().clamp(*ENDS)
    # As LSQ's own pseudo-code has it: rounding passes gradients, clamping does not.
    codes = torch.where(inside, v + (v.round() - v).detach(), v.clamp(*ENDS).detach())
    (codes * s * gradient).sum().backward()
    assert s.grad is not None
    theirs = s.detach() - rate * s.grad / math.sqrt(7)
    assert float(ours) - 0.5 == pytest.approx(float(theirs) - 0.5, rel=2e-3)
    assert abs(float(ours) - 0.5) > 1e-4


def test_each_channel_has_a_step_of_its_own_and_a_turned_sign_changes_no_value() -> None:
    weight = torch.tensor([[0.3, -1.0], [2.0, 0.2]], requires_grad=True)
    base = torch.tensor([[0.25], [-0.5]])
    learnt = torch.zeros(2, 1, requires_grad=True)
    found = fake_quantized(weight, base, learnt, (-127, 127), 2)
    assert found.tolist() == [[0.25, -1.0], [2.0, 0.0]]
    found.sum().backward()
    assert learnt.grad is not None
    slopes = [(1 - 1.2) / 0.25, (0 - -0.4) / -0.5]
    expected = [slope / math.sqrt(2 * 127) for slope in slopes]
    assert learnt.grad.flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("learnt", [-100.0, 100.0])
def test_a_step_stays_near_its_calibrated_one(learnt: float) -> None:
    found = float(step_of(BASE, torch.tensor(learnt)))
    assert found == pytest.approx(0.5 * FARTHEST ** math.copysign(1, learnt))


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
    st.floats(0.01, 10),
    st.integers(0, 255),
)
def test_the_values_are_those_of_the_simulation(
    values: list[float], scale: float, zero: int
) -> None:
    value = torch.tensor(values)
    base = torch.tensor(scale, dtype=torch.float32)
    found = fake_quantized(value, base, torch.zeros(()), (-zero, 255 - zero), 1)
    expected = on_grid(value, ActivationQuant(scale, zero))
    assert torch.equal(found + 0.0, expected + 0.0)
