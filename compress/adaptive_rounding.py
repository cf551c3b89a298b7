"""AdaRound: each weight of a layer rounded up or down, as its outputs ask.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(arXiv:2004.10568), section 4: w = s * clip(floor(w / s) + h(v)) with a rectified sigmoid h(v) in
[0, 1] for each weight (equation 23), the outputs behind the activation function fitted to the
wanted ones (equation 25), and a regulariser 1 - |2h - 1|**beta (equation 24) that drives each h to
0 or 1 while beta falls. The gradient is written out: it is a product of matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from compress.reconstruction import Sample

# The sigmoid's ends (section 4), beyond 0 and 1 so that it reaches both.
_STRETCH = (-0.1, 1.1)
# beta at the start, after the part of the steps without regulariser, and at the end.
_BETA = (20.0, 2.0)
_WARM_UP = 0.2
# So few weights make an output, as in a depthwise layer, that each is tried the other way at last:
# it costs little then, and 2,048 positions cannot mislead.
_FEW = 64
_NEWTON = 4
# A weight so near an integer multiple of its scale lies on the grid.
_ON_GRID = 1e-4


@dataclass(frozen=True)
class Fitting:
    """steps of Adam at learning_rate, each on `batch` positions; weight: of the regulariser."""

    steps: int = 300
    learning_rate: float = 0.02
    batch: int = 32
    weight: float = 0.02
    seed: int = 0


def nearest(ratio: torch.Tensor, top: int) -> torch.Tensor:
    """The integers nearest to `ratio`, half to even, in [-top, top]."""
    return ratio.round().clamp(-top, top)


def adaptive(
    ratio: torch.Tensor, scale: torch.Tensor, top: int, sample: Sample, how: Fitting
) -> torch.Tensor:
    """Integers in [-top, top], each floor or ceil of `ratio` (or an end that it lies beyond).

    ratio: (g, m, n), weight / scale; scale: (g, m, 1). No row's outputs at the sampled positions
    err more than those of `nearest`, which it gets back where they would.
    """
    rows = _Rows(ratio, scale, top, sample, how)
    rows.fit()
    plain, found = nearest(ratio, top), rows.hard()
    worse = output_errors(found * scale, sample) > output_errors(plain * scale, sample)
    found = torch.where(worse[:, :, None], plain, found)
    return rows.turned(found) if ratio.shape[2] <= _FEW else found


def output_errors(weight: torch.Tensor, sample: Sample) -> torch.Tensor:
    """(g, m): mean squared error of each output behind its activation function, as float64."""
    missed = _acted(torch.bmm(sample.inputs, weight.transpose(1, 2)), sample) - _acted(
        sample.outputs, sample
    )
    return missed.double().square().mean(dim=1)


def fitted_shift(weight: torch.Tensor, sample: Sample) -> torch.Tensor:
    """(g, 1, m): what to add to the bias so that outputs behind the activation function err least.

    Newton's steps, each taken by the rows whose error falls by it; zero where none does.
    """
    wanted = _acted(sample.outputs, sample)
    made = torch.bmm(sample.inputs, weight.transpose(1, 2))
    shift = torch.zeros_like(sample.bias)
    missed = _acted(made, sample) - wanted
    error = missed.square().mean(dim=1, keepdim=True)
    for _ in range(_NEWTON):
        line = made + shift + sample.bias
        inside = ((line > sample.low) & (line < sample.high)).float()
        share = inside.mean(dim=1, keepdim=True).clamp(min=1 / made.shape[1])
        trial = shift - (missed * inside).mean(dim=1, keepdim=True) / share
        other = _acted(made + trial, sample) - wanted
        after = other.square().mean(dim=1, keepdim=True)
        better = after < error
        shift = torch.where(better, trial, shift)
        missed = torch.where(better, other, missed)
        error = torch.where(better, after, error)
    return shift


def _acted(outputs: torch.Tensor, sample: Sample) -> torch.Tensor:
    if sample.low == -math.inf and sample.high == math.inf:
        return outputs
    return (outputs + sample.bias).clamp(sample.low, sample.high)


class _Rows:
    """The soft rounding of one layer's weight while it is fitted."""

    def __init__(
        self, ratio: torch.Tensor, scale: torch.Tensor, top: int, sample: Sample, how: Fitting
    ) -> None:
        self.scale, self.top, self.sample, self.how = scale, top, sample, how
        part = ratio - ratio.floor()
        fixed = (ratio - ratio.round()).abs() <= _ON_GRID * ratio.abs().clamp(min=1)
        self.floor = torch.where(fixed, ratio.round(), ratio.floor())
        inside = (self.floor >= -top) & (self.floor < top)
        self.free = (~fixed & inside).float()
        low, high = _STRETCH
        self.v = torch.logit((part - low) / (high - low))
        # The loss counts errors in units of what one step of a mean weight costs.
        power = sample.inputs.square().mean(dim=1, keepdim=True)
        self.unit = float((power * scale**2).mean()) or 1.0

    def _soft(self) -> tuple[torch.Tensor, torch.Tensor]:
        """h(v) and its derivative."""
        low, high = _STRETCH
        sigmoid = torch.sigmoid(self.v)
        h = sigmoid * (high - low) + low
        slope = sigmoid * (1 - sigmoid) * (high - low) * ((h > 0) & (h < 1))
        return h.clamp(0, 1), slope

    def _weight(self, h: torch.Tensor) -> torch.Tensor:
        return (self.floor + h * self.free).clamp(-self.top, self.top) * self.scale

    def fit(self) -> None:
        """Adam over `steps` random batches of positions."""
        generator = torch.Generator().manual_seed(self.how.seed)
        count = self.sample.inputs.shape[1]
        adam = torch.optim.Adam([self.v], lr=self.how.learning_rate, fused=True)
        for step in range(self.how.steps):
            chosen = torch.randint(count, (min(self.how.batch, count),), generator=generator)
            h, slope = self._soft()
            self.v.grad = self._pull(h, chosen).add_(self._push(h, step)).mul_(slope)
            adam.step()

    def _pull(self, h: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The gradient of the outputs' squared error with respect to h."""
        inputs, sample = self.sample.inputs[:, chosen], self.sample
        made = torch.bmm(inputs, self._weight(h).transpose(1, 2))
        missed = _acted(made, sample) - _acted(sample.outputs[:, chosen], sample)
        if sample.low > -math.inf or sample.high < math.inf:
            made += sample.bias
            missed *= (made > sample.low) & (made < sample.high)
        gradient = torch.bmm(missed.transpose(1, 2), inputs)
        return gradient.mul_(self.scale * (2 / (len(chosen) * self.unit))).mul_(self.free)

    def _push(self, h: torch.Tensor, step: int) -> torch.Tensor:
        """The gradient of the regulariser, none while the rounding warms up."""
        begun = self.how.steps * _WARM_UP
        if step < begun:
            return torch.zeros(())
        done = (step - begun) / max(1.0, self.how.steps - begun)
        beta = _BETA[0] + (_BETA[1] - _BETA[0]) * done
        side = 2 * h - 1
        return -2 * beta * self.how.weight * side.sign() * side.abs().pow(beta - 1)

    def hard(self) -> torch.Tensor:
        """The integers once h is rounded."""
        h, _ = self._soft()
        return (self.floor + (h >= 0.5) * self.free).clamp(-self.top, self.top)

    def turned(self, integers: torch.Tensor) -> torch.Tensor:
        """Weight after weight rounded the other way, in each row whose outputs err less by it."""
        integers = integers.clone()
        wanted = _acted(self.sample.outputs, self.sample)
        made = torch.bmm(self.sample.inputs, (integers * self.scale).transpose(1, 2))
        error = (_acted(made, self.sample) - wanted).square().mean(dim=1)
        for column in range(integers.shape[2]):
            own = integers[:, :, column]
            step = (2 * self.floor[:, :, column] + 1 - 2 * own) * self.free[:, :, column]
            shift = (step * self.scale[:, :, 0])[:, None, :]
            other = torch.addcmul(made, self.sample.inputs[:, :, column, None], shift)
            after = (_acted(other, self.sample) - wanted).square_().mean(dim=1)
            better = after < error
            integers[:, :, column] += step * better
            made = torch.where(better[:, None, :], other, made)
            error = torch.where(better, after, error)
        return integers
