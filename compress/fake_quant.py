"""Rounding to an integer grid in training: straight-through gradients, steps that may be learnt.

Esser et al., "Learned Step Size Quantization" (LSQ, arXiv:1902.08153), section 2: the gradient of
a value is 1 where rounding alone decides (eq. 5), that of its grid's step is eq. 3, scaled by
1 / sqrt(N Q) (section 2.2), N being the values that one step serves and Q the greatest integer. A
step is learnt as ln(step / calibrated step): it stays positive, 0 is the calibrated one, and the
gradient is such that a descent changes it by as large a part of itself as LSQ's would.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch

# A learnt step stays within this factor of the calibrated one: so one wild gradient ruins nothing.
FARTHEST = 4.0


def step_of(base: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """The step that acts: base * exp(learnt), held within a factor of 4 of `base`."""
    limit = math.log(FARTHEST)
    return base * learnt.detach().clamp(-limit, limit).exp()


def fake_quantized(
    value: torch.Tensor,
    base: torch.Tensor,
    learnt: torch.Tensor,
    ends: tuple[int, int],
    features: int,
) -> torch.Tensor:
    """`value` rounded half to even to multiples of its step, held between `ends` of them.

    base: the calibrated step or steps, of a shape that multiplies `value`, none 0; learnt: of the
    same shape, ln(step / base), which gets a gradient where it wants one. features: how many
    values of one picture, or of one channel of a weight, a step serves.
    """
    largest = max(-ends[0], ends[1])
    weight = 1 / math.sqrt(features * largest)
    return cast("torch.Tensor", _FakeQuantized.apply(value, base, learnt, ends, weight))  # pyright: ignore[reportUnknownMemberType]


class _FakeQuantized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: torch.Tensor,
        base: torch.Tensor,
        learnt: torch.Tensor,
        ends: tuple[int, int],
        weight: float,
    ) -> torch.Tensor:
        step = step_of(base, learnt)
        ctx.save_for_backward(value, step)
        ctx.ends, ctx.weight = ends, weight
        return (value / step).round_().clamp_(*ends).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (value, step) = grad_outputs, ctx.saved_tensors
        ratio = value / step
        rounded = ratio.round()
        codes = rounded.clamp(*ctx.ends)
        inside = codes == rounded
        of_step = None
        if ctx.needs_input_grad[2]:
            # Eq. 3: round(v / s) - v / s where rounding alone decides, else the end of the grid.
            slope = codes.sub_(ratio.mul_(inside)).mul_(gradient)
            of_step = slope.sum_to_size(step.shape) * ctx.weight / step
        of_value = gradient * inside if ctx.needs_input_grad[0] else None
        return of_value, None, of_step, None, None
