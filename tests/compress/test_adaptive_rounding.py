"""adaptive_rounding: up or down, never worse than nearest, near the best there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from compress.adaptive_rounding import (
    Fitting,
    adaptive,
    fitted_shift,
    nearest,
    output_errors,
)
from compress.reconstruction import Sample

RELU = (0.0, math.inf)
NONE = (-math.inf, math.inf)


def problem(
    groups: int, rows: int, count: int, limits: tuple[float, float] = RELU, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, Sample]:
    """(weight / scale, scale, sample) of correlated inputs, as a net's are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, count, count, generator=generator)
    inputs = torch.bmm(torch.randn(groups, 300, count, generator=generator), mix).relu()
    weight = torch.randn(groups, rows, count, generator=generator)
    scale = weight.abs().amax(dim=2, keepdim=True) / 7
    outputs = torch.bmm(inputs, weight.transpose(1, 2))
    bias = torch.randn(groups, 1, rows, generator=generator)
    return weight / scale, scale, Sample(inputs, outputs, bias, *limits, (0.0, 1.0))


@pytest.mark.parametrize("limits", [RELU, NONE, (0.0, 6.0)])
@pytest.mark.parametrize("shape", [(1, 12, 20), (8, 1, 9), (2, 3, 10)])
def test_each_weight_goes_up_or_down_and_outputs_err_less(
    shape: tuple[int, int, int], limits: tuple[float, float]
) -> None:
    ratio, scale, sample = problem(*shape, limits)
    found = adaptive(ratio, scale, 7, sample, Fitting(steps=300))
    assert ((found == ratio.floor()) | (found == ratio.ceil())).all()
    plain = nearest(ratio, 7)
    before, after = (output_errors(q * scale, sample) for q in (plain, found))
    assert (after <= before).all()
    assert float(after.sum()) < 0.85 * float(before.sum())


def test_it_is_near_the_best_of_all_roundings() -> None:
    ratio, scale, sample = problem(6, 1, 8)
    found = adaptive(ratio, scale, 7, sample, Fitting(steps=500))
    ours = output_errors(found * scale, sample)
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)))
    every = torch.stack(
        [output_errors((ratio.floor() + up).clamp(-7, 7) * scale, sample) for up in ups]
    )
    least, plain = every.amin(dim=0), output_errors(nearest(ratio, 7) * scale, sample)
    assert float(ours.sum()) <= float(least.sum() + 0.35 * (plain - least).sum())


def test_weights_on_the_grid_and_zeros_stay() -> None:
    ratio, scale, sample = problem(1, 6, 10)
    whole = ratio.round()
    whole[:, :, ::3] = 0
    sample = Sample(sample.inputs, sample.outputs + 3, sample.bias, *NONE, (0.0, 1.0))
    nudged = whole * (1 + 1e-6)
    found = adaptive(nudged, scale, 7, sample, Fitting(steps=50, learning_rate=1.0))
    assert torch.equal(found, whole)


def test_a_ratio_beyond_the_grid_ends_at_its_end() -> None:
    ratio, scale, sample = problem(1, 4, 6)
    found = adaptive(ratio * 2, scale, 7, sample, Fitting(steps=50))
    beyond = (ratio * 2).abs() >= 7
    assert beyond.any()
    assert torch.equal(found[beyond], 7 * torch.sign(ratio[beyond]))
    assert found.abs().max() <= 7


def test_the_seed_decides() -> None:
    ratio, scale, sample = problem(1, 10, 16)
    one, two = (adaptive(ratio, scale, 7, sample, Fitting(steps=60, seed=3)) for _ in range(2))
    assert torch.equal(one, two)


def test_inputs_of_zeros_leave_nearest() -> None:
    ratio, scale, sample = problem(1, 4, 6)
    dark = Sample(
        torch.zeros_like(sample.inputs),
        torch.zeros_like(sample.outputs),
        sample.bias,
        *RELU,
        (0, 0),
    )
    found = adaptive(ratio, scale, 7, dark, Fitting(steps=20))
    assert np.isfinite(found.numpy()).all()
    assert ((found == ratio.floor()) | (found == ratio.ceil())).all()


@pytest.mark.parametrize("limits", [RELU, NONE, (0.0, 6.0)])
def test_the_shift_finds_what_the_bias_lacks(limits: tuple[float, float]) -> None:
    ratio, scale, sample = problem(2, 5, 12, limits)
    weight = ratio * scale
    lacking = torch.linspace(-0.5, 0.5, 10).reshape(2, 1, 5)
    other = Sample(sample.inputs, sample.outputs + lacking, sample.bias, *limits, (0.0, 1.0))
    torch.testing.assert_close(fitted_shift(weight, other), lacking, atol=2e-3, rtol=1e-2)
    assert not fitted_shift(weight, sample).abs().max() > 1e-5
