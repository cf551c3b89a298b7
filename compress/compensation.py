"""Weights put on given levels one after another, each error made good by those still to come.

Frantar et al. 2023, "GPTQ" (arXiv:2210.17323), section 3, after Hassibi and Stork's optimal brain
surgeon: an error E of a layer's weight adds tr(G E A E^T) to the error of its outputs, A the second
moment of its inputs and G diagonal. With A = (I + M)^T D (I + M), M strictly lower, that is a sum
of d_j g_i (E_ij + sum over k < j of M_jk E_ik)^2. So each column is rounded to what the errors
before it ask for. `choose` may weigh the bits of a level against its error.

Arrays have a leading axis of groups, for grouped and depthwise convolutions: (g, m outputs, n
inputs). Plain arithmetic, the same on every machine but for the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# (wanted values (g, m), importance of their squared errors (g, m), column) -> values (g, m)
Choose = Callable[[Floats, Floats, NDArray[np.intp]], Floats]


@dataclass(frozen=True, eq=False)
class Factors:
    """A = (I + below)^T diag(scales) (I + below), its columns taken in `order`.

    order: (g, n); scales: (g, n), above zero; below: (g, n, n), strictly lower triangular.
    """

    order: NDArray[np.intp]
    scales: Floats
    below: Floats


def factorize(inputs: Floats, damping: float) -> Factors:
    """The factors of `inputs`, (g, n, n) symmetric, after `damping` times its mean diagonal.

    The last column is the one of the least diagonal, the one before it that of the least of what
    the last leaves, and so on: then the scales, whose sum an even grid pays, are small.
    """
    count = inputs.shape[1]
    level = np.trace(inputs, axis1=1, axis2=2) / count
    # A group that saw zeros only has no preference; any positive diagonal will do.
    level = np.where(level > 0, level, 1.0)
    damped = inputs + np.eye(count) * (damping * level)[:, None, None]
    order = _pivots(damped)
    sorted_rows = np.take_along_axis(damped, order[:, :, None], axis=1)
    ordered = np.take_along_axis(sorted_rows, order[:, None, :], axis=2)
    # Cholesky of the reversed matrix: ordered = upper @ upper.T
    upper = np.linalg.cholesky(ordered[:, ::-1, ::-1])[:, ::-1, ::-1]
    roots = np.diagonal(upper, axis1=1, axis2=2).astype(np.float64)
    below = np.swapaxes(upper / roots[:, None, :], 1, 2) - np.eye(count)
    return Factors(order, roots**2, np.ascontiguousarray(np.tril(below, -1)))


def _pivots(damped: Floats) -> NDArray[np.intp]:
    """(g, n): columns from the first to the last to be rounded."""
    groups, count, _ = damped.shape
    rest, every = damped.copy(), np.arange(groups)
    left = np.ones((groups, count), np.bool_)
    order = np.zeros((groups, count), np.intp)
    for place in range(count - 1, -1, -1):
        diagonal = np.where(left, np.diagonal(rest, axis1=1, axis2=2), np.inf)
        least = diagonal.argmin(axis=1)
        order[:, place] = least
        left[every, least] = False
        column = rest[every, :, least]
        pivot = column[every, least]
        rest -= column[:, :, None] * (column / pivot[:, None])[:, None, :]
    return order


def compensated(weight: Floats, factors: Factors, outputs: Floats, choose: Choose) -> Floats:
    """Values that `choose` gave, (g, m, n), for `weight` of that shape.

    outputs: (g, m), the diagonal of G. Where choose gives back what it is asked for, nothing is
    lost and the result is the weight.
    """
    groups, rows, count = weight.shape
    every = np.arange(groups)
    values = np.empty_like(weight)
    errors = np.zeros((groups, count, rows))  # in the order of the factors
    for place in range(count):
        column = factors.order[:, place]
        owed = (factors.below[:, None, place, :place] @ errors[:, :place])[:, 0]
        own = weight[every, :, column]
        importance = factors.scales[:, place, None] * outputs
        chosen = choose(own - owed, importance, column)
        values[every, :, column] = chosen
        errors[:, place] = chosen - own
    return values


def output_error(error: Floats, inputs: Floats, outputs: Floats) -> float:
    """tr(G E A E^T) over all groups; error (g, m, n), inputs (g, n, n), outputs (g, m)."""
    each = np.einsum("gmn,gmn->gm", error @ inputs, error)
    return float((each * outputs).sum())


def as_groups(weight: NDArray[Any], groups: int) -> Floats:
    """A layer's weight, (outputs, inputs, ...), as (groups, m, n)."""
    return weight.astype(np.float64).reshape(groups, weight.shape[0] // groups, -1)
