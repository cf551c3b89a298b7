"""How a layer's remaining weights take over what removed inputs did: damped least squares.

Reconstruction as He, Zhang and Sun 2017 (arXiv:1707.06168), section 3.1, and ThiNet (Luo et al.
2017, arXiv:1707.06342), section 3.2.3, but towards the weights that are there instead of zero, and
with the damping that does best on samples held out. Plain arithmetic.

Arrays have a leading axis of groups, for grouped convolutions: (g, ...).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Times the mean square of an input: from hardly any damping to nearly no change.
DAMPINGS = tuple(10.0**k for k in range(-5, 3))
_HELD_OUT = 4  # every fourth run of samples judges the damping
_RUNS = 16


@dataclass(frozen=True, eq=False)
class Change:
    """What is to be added to a weight, (g, m, n), and to a bias, (g, m)."""

    weight: Floats
    bias: Floats


def damped_change(inputs: Floats, errors: Floats, with_bias: bool) -> Change:
    """The change that makes `errors` least in the sum of squares.

    inputs: (g, samples, n); errors: (g, samples, m), what is wanted less what the weights give now.
    The sum never rises. An input that is 0 in all samples, or in none but held out, keeps its
    weight. Samples of one picture should be neighbours: runs of them are held out together.
    """
    samples = inputs.shape[1]
    runs = np.arange(samples) * min(_RUNS, samples) // samples
    out = runs % _HELD_OUT == _HELD_OUT - 1
    damping = 1.0
    if out.any():
        fitted = _Fit(inputs[:, ~out], errors[:, ~out], with_bias)
        losses = [fitted.loss(d, inputs[:, out], errors[:, out]) for d in DAMPINGS]
        damping = DAMPINGS[int(np.argmin(losses))]
    return _Fit(inputs, errors, with_bias).change(damping)


def best_rest(weight: Floats, inputs: Floats, kept: NDArray[np.bool_], damping: float) -> Floats:
    """The weight, (g, m, n), with 0 where not `kept`, (g, n), that gives nearly the same.

    inputs: (g, n, n), second moments of the inputs about their mean; `damping` times their mean
    diagonal draws the rest to what it was.
    """
    found = weight * kept[:, None, :]
    for own, given, square, stays in zip(found, weight, inputs, kept, strict=True):
        level = float(np.trace(square)) / len(square)
        inner = square[np.ix_(stays, stays)]
        inner = inner + np.eye(len(inner)) * (damping * level if level > 0 else 1.0)
        across = square[np.ix_(stays, ~stays)] @ given[:, ~stays].T
        own[:, stays] += np.linalg.solve(inner, across).T
    return found


class _Fit:
    """Ridge regression for any damping, from one decomposition."""

    def __init__(self, inputs: Floats, errors: Floats, with_bias: bool) -> None:
        self._means = inputs.mean(1, keepdims=True) * with_bias
        self._shift = errors.mean(1, keepdims=True) * with_bias
        centred, wanted = inputs - self._means, errors - self._shift
        square = np.swapaxes(centred, 1, 2) @ centred
        self._values, self._vectors = np.linalg.eigh(square)
        self._seen = np.swapaxes(self._vectors, 1, 2) @ (np.swapaxes(centred, 1, 2) @ wanted)
        level = np.trace(square, axis1=1, axis2=2) / max(1, inputs.shape[2])
        self._level = np.where(level > 0, level, 1.0)

    def change(self, damping: float) -> Change:
        lifted = np.maximum(self._values, 0.0) + (damping * self._level)[:, None]
        found = self._vectors @ (self._seen / lifted[:, :, None])
        weight = np.swapaxes(found, 1, 2)
        bias = (self._shift - self._means @ found)[:, 0]
        return Change(weight, bias)

    def loss(self, damping: float, inputs: Floats, errors: Floats) -> float:
        change = self.change(damping)
        left = errors - inputs @ np.swapaxes(change.weight, 1, 2) - change.bias[:, None]
        return float(np.square(left).sum())
