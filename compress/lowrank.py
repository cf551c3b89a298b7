"""Truncated singular value decomposition of a matrix, and the choice of its rank.

Denton et al., "Exploiting Linear Structure Within Convolutional Networks for Efficient
Evaluation", NIPS 2014 (arXiv:1404.0736), section 3: a layer's matrix as a product of two thinner
ones. By Eckart and Young the truncated decomposition has the least error of its rank.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.errors import RangeError

# A rank below this part of a large matrix's shorter side is found without the others.
_SMALL, _LARGE = 8, 1024
# Blocks of the Krylov space, and how much wider than the rank they are: even of a matrix of noise,
# whose values all but equal each other, the error is right to four digits.
_BLOCKS, _WIDER = 8, 16


class LowRank(NamedTuple):
    """weight ~= left @ right."""

    left: NDArray[np.float32]  # (m, rank)
    right: NDArray[np.float32]  # (rank, n)
    error: float  # Frobenius norm of weight - left @ right, as a fraction of that of weight


def truncate(weight: NDArray[np.float32], rank: int) -> LowRank:
    """The best factors of `rank` for weight, (m, n), each with the square root of the values.

    rank: 1 to min(m, n); at full rank the product is weight but for float32 rounding. The error
    is that of the float32 factors given back. Small ranks of large matrices come from a block
    Krylov space (Musco and Musco 2015, arXiv:1504.05477, algorithm 2), others from all of the Gram
    matrix's eigenvectors. Raises RangeError for another rank or shape, or a
    weight that is not finite.
    """
    _check_matrix(weight)
    rows, columns = weight.shape
    if not 1 <= rank <= min(rows, columns):
        raise RangeError(
            f"rank {rank} for a matrix of shape {weight.shape}: allowed are 1 to "
            f"{min(rows, columns)}"
        )
    wide = rows < columns
    few = min(rows, columns) >= _LARGE and rank * _SMALL <= min(rows, columns)
    # Of large matrices products in float32, where they are twice to ten times as fast: they are
    # right to 1e-7.
    exact = np.float32 if few else np.float64
    tall = (weight.T if wide else weight).astype(exact, copy=False)
    basis = _leading(tall, rank) if few else _eigen(tall)[1][:, ::-1][:, :rank]
    # Projecting on an orthonormal basis keeps full accuracy, although a Gram matrix gives the
    # small singular values to only half the digits: their norms are taken from the projection.
    image = (tall @ basis.astype(exact)).astype(np.float64)
    roots = np.sqrt(np.linalg.norm(image, axis=0))
    # The sign of an eigenvector is the library's whim: fix it, so that builds agree.
    peaks = basis[np.abs(basis).argmax(axis=0), np.arange(rank)]
    roots *= np.where(peaks < 0, -1.0, 1.0)
    safe = np.where(roots == 0, 1.0, roots)  # a value of zero: its image is zero as well
    outer, inner = (image / safe).astype(np.float32), (roots * basis).astype(np.float32)
    left, right = (inner, outer.T) if wide else (outer, inner.T)
    rest = weight - left.astype(exact) @ right.astype(exact)
    norm, lost = (float(np.linalg.norm(matrix.astype(np.float64))) for matrix in (weight, rest))
    error = lost / norm if norm else 0.0
    return LowRank(np.ascontiguousarray(left), np.ascontiguousarray(right), error)


def rank_for_energy(weight: NDArray[np.float32], energy: float) -> int:
    """The least rank that keeps `energy` of the sum of the squared singular values; at least 1.

    weight: (m, n); energy in (0, 1]. 1.0 asks for the numerical rank in float64. Raises RangeError
    for another energy or shape, or a weight that is not finite.
    """
    _check_matrix(weight)
    if not 0.0 < energy <= 1.0:
        raise RangeError(f"energy of {energy}: allowed are above 0 and up to 1")
    tall = weight.astype(np.float64)
    values = np.maximum(_eigen(tall.T if tall.shape[0] < tall.shape[1] else tall)[0], 0.0)
    # Summed from the smallest up, so that what is lost is exact where almost nothing is.
    lost = np.cumsum(values)
    noise = max(weight.shape) * float(np.finfo(np.float64).eps)
    allowed = max(1.0 - energy, noise) * float(lost[-1])
    return max(1, values.size - int(np.searchsorted(lost, allowed, side="right")))


def worthwhile_rank(m: int, n: int) -> int:
    """The largest rank with fewer parameters than the dense m x n matrix: r * (m + n) < m * n.

    0 where there is none.
    """
    if m < 1 or n < 1:
        raise RangeError(f"matrix of {m} x {n}: allowed are 1 and more")
    return (m * n - 1) // (m + n)


def _eigen(tall: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared singular values, ascending, and right singular vectors (columns) of a tall matrix.

    By the Gram matrix: six times as fast as an SVD of 4096 x 9216, and as good for what is kept.
    """
    values, vectors = np.linalg.eigh(tall.T @ tall)
    return values, vectors


def _leading(tall: NDArray[np.floating[Any]], rank: int) -> NDArray[np.float64]:
    """(n, rank): the leading right singular vectors of a tall matrix, the best in a Krylov space.

    tall: float32. By its Gram matrix, to which the leading ones are accurate enough.
    """
    gram = tall.T @ tall
    start = np.random.default_rng(0).standard_normal((len(gram), rank + _WIDER))
    block = np.linalg.qr(gram @ start.astype(np.float32))[0]
    space, image = block, gram @ block
    for _ in range(_BLOCKS - 1):
        block = image[:, -block.shape[1] :]
        for _ in range(2):  # once leaves what rounding left
            block = block - space @ (space.T @ block)
        block = np.linalg.qr(block)[0]
        space = np.concatenate((space, block), axis=1)
        image = np.concatenate((image, gram @ block), axis=1)
    inside = space.T @ image
    vectors = np.linalg.eigh(inside + inside.T)[1][:, ::-1][:, :rank]
    return np.linalg.qr(space @ vectors)[0]


def _check_matrix(weight: NDArray[np.float32]) -> None:
    if weight.ndim != 2 or 0 in weight.shape:
        raise RangeError(f"weight of shape {weight.shape}: allowed are matrices; reshape it")
    if not np.isfinite(weight).all():
        raise RangeError("weight holds NaN or infinity: allowed are finite ones; retrain or repair")
