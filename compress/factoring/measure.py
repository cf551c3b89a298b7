"""What an error of a layer's weight costs, and roots of the matrices that say it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Roots:
    """Square root and its inverse of a symmetric positive definite matrix; None: the identity."""

    def __init__(self, matrix: Floats | None) -> None:
        self._root = self._inverse = None
        if matrix is not None:
            values, vectors = np.linalg.eigh(matrix)
            # Rounding may put the least ones below zero.
            roots = np.sqrt(np.maximum(values, values[-1] * 1e-14))
            self._root = (vectors * roots) @ vectors.T
            self._inverse = (vectors / roots) @ vectors.T

    def times(self, other: Floats) -> Floats:
        """root @ other."""
        return other if self._root is None else self._root @ other

    def undo(self, other: Floats) -> Floats:
        """inverse root @ other."""
        return other if self._inverse is None else self._inverse @ other


@dataclass(frozen=True, eq=False)
class Measure:
    """An error E, (m, n), of a weight costs tr(G E A E^T).

    inputs: A, (n, n); outputs: G, (m, m), symmetric and positive definite; None: the identity.
    """

    inputs: Floats | None = None
    outputs: Floats | None = None

    @cached_property
    def out(self) -> Roots:
        """The roots of G."""
        return Roots(self.outputs)

    def after(self, weight: Floats) -> Floats:
        """A @ weight.T, (n, m), for weight (m, n)."""
        return weight.T if self.inputs is None else self.inputs @ weight.T

    def cost(self, error: Floats) -> float:
        """tr(G E A E^T), E of shape (m, n)."""
        weighed = self.out.times(error)
        return float((self.after(weighed).T * weighed).sum())


class Factors(Protocol):
    """A weight's factors at every rank of one split.

    ranks: (k, 2) int64, the (rank, rank_in) that are offered; errors: (k,) what each costs by the
    measure. `at` gives the layers' weights, float64, for one of them.
    """

    ranks: NDArray[np.int64]
    errors: Floats

    def at(self, rank: int, rank_in: int) -> list[Floats]: ...


def descending(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, at least zero, from the greatest, and eigenvectors (columns) of a symmetric."""
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def tails(values: Floats) -> Floats:
    """(k,) what is lost with the first 1, 2, ... of the descending values kept."""
    # From the smallest up: exact where almost nothing is lost.
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)[1:]


def balanced(factors: list[Floats]) -> list[NDArray[np.float32]]:
    """The same product, the channels between two layers as large in one as in the other.

    factors: weights (outputs, inputs, ...) in the order in which they act. The sign of a channel is
    the linear algebra library's whim: it is fixed, so that builds agree.
    """
    done = list(factors)
    for number in range(len(done) - 1):
        one, two = done[number], done[number + 1]
        rows = one.reshape(len(one), -1)
        columns = np.moveaxis(two, 1, 0).reshape(len(one), -1)
        before, behind = np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1)
        alive = (before > 0) & (behind > 0)
        scale = np.sqrt(np.where(alive, behind, 1.0) / np.where(alive, before, 1.0))
        peaks = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
        scale *= np.where(peaks < 0, -1.0, 1.0)
        done[number] = one * scale.reshape(-1, *[1] * (one.ndim - 1))
        done[number + 1] = two / scale.reshape(1, -1, *[1] * (two.ndim - 2))
    return [np.ascontiguousarray(factor, np.float32) for factor in done]
