"""What a context coder believes of the next symbol: frequencies that follow the symbols seen.

Contexts form a grid of (shifts, spreads): neighbours in it are alike. A context starts from what
its neighbours and all contexts together have seen, taken for `strength` symbols of its own, and
adds its own counts as they come. No table of frequencies is stored. All arithmetic is in
integers, so that every machine gets the same frequencies; // rounds down.

With counts n[shift, spread, code], their sums N[code] over the contexts and a prior p[code]:

    G[code]  = 64 * N[code] + p[code]
    r        = bit length of 512 * codes // (1 + sum of all n), but 1 to 8
    S        = n, weighted by 1, 2, 1 along the shifts and 1, 2, 1 along the spreads (outside: 0)
    T        = S after r times: T[c] = S[c - 1] + 2 * S[c] + S[c + 1] for codes c > 0, the first
               and the last such code standing in for what is beyond them; T[0] = 4 * S[0]
    t[code]  = (T << 16) + 16 * 4**r * ((G << 16) // sum(G))
    u[code]  = t // ((sum(t) >> 24) + 1)
    w[code]  = (n << 16) + (u * strength >> 8)
    f[code]  = 1 + w * (2**15 - codes) // sum(w), and what is missing from the sum 2**15 goes to
               the first code of the greatest w

with sums over the codes, in each context. Smoothing from code to code is good for weights, whose
codes rise with their values (code 0, a pruned weight, stands apart).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.ans import SLOTS, Tables

_FIRST_UPDATE = 32
_DECAYS = 16
_WIDEST = 8


class Model:
    """Counts in a grid of contexts, from which come `tables` for the next symbols."""

    def __init__(self, grid: tuple[int, int], start: NDArray[np.int64], strength: int) -> None:
        """grid: (shifts, spreads). start: prior(), of the length of the alphabet. strength: 2**8
        to 2**14."""
        self._strength = strength
        self.counts = np.zeros((*grid, start.size), np.int64)
        self._start = start

    def add(self, contexts: NDArray[np.uint16], codes: NDArray[np.integer[Any]]) -> None:
        """Count codes, each seen in its context (shift * spreads + spread)."""
        size = self._start.size
        if self.counts.size == size:
            seen = np.bincount(codes, minlength=size)
        else:
            seen = np.bincount(contexts.astype(np.intp) * size + codes, minlength=self.counts.size)
        self.counts += seen.reshape(self.counts.shape)

    def tables(self) -> Tables:
        """The frequencies, as the module says."""
        counts, size = self.counts, self._start.size
        common = 64 * counts.sum(axis=(0, 1)) + self._start
        rounds = (512 * size // (1 + int(counts.sum()))).bit_length()
        rounds = min(max(rounds, 1), _WIDEST)
        smooth = _blurred(_blurred(counts, 0), 1)
        for _ in range(rounds):
            smooth = _smoothed(smooth)
        parent = (smooth << 16) + (16 << 2 * rounds) * ((common << 16) // common.sum())
        share = parent // ((parent.sum(axis=2, keepdims=True) >> 24) + 1)
        weight = ((counts << 16) + (share * self._strength >> 8)).reshape(-1, size)
        frequencies = 1 + weight * (SLOTS - size) // weight.sum(axis=1, keepdims=True)
        missing = SLOTS - frequencies.sum(axis=1)
        frequencies[np.arange(len(weight)), weight.argmax(axis=1)] += missing
        return Tables(frequencies)


def prior(size: int, negatives: int, zeros: int, decay: int) -> NDArray[np.int64]:
    """What is believed before anything is seen, (size,): about 32 for each code.

    Codes 1 to `negatives` are the values below zero, ascending; those above are the positive
    ones. The rank of a code is its distance from zero among those of its sign, 1 and up. zeros:
    16ths of code 0, 0 to 15 (0: as likely as rank 1). decay: 0 to 15; each rank has 1 - decay / 64
    of the one before, from 2**16 down, at least 64. Scaled to a sum of about 32 * size.
    """
    assert 0 <= zeros < 16
    assert 0 <= decay < _DECAYS
    falling = np.empty(max(negatives, size - 1 - negatives) + 1, np.int64)
    weight = 1 << 16
    for rank in range(falling.size):
        falling[rank] = weight
        weight = max(64, weight - (weight * decay >> 6))
    weights = falling[np.maximum(np.abs(signed(np.arange(size), negatives)) - 1, 0)]
    if zeros:
        weights[0] = weights[1:].sum() * zeros // (16 - zeros)
    return 1 + weights * (32 * size) // weights.sum()


def signed(codes: NDArray[np.integer[Any]], negatives: int) -> NDArray[np.int64]:
    """Codes as signed ranks: code 0 is 0, `negatives` is -1, negatives + 1 is 1."""
    ranks = codes.astype(np.int64) - negatives
    ranks -= ranks <= 0
    ranks[codes == 0] = 0
    return ranks


def best_prior(counts: NDArray[np.int64], negatives: int) -> tuple[float, int, int]:
    """(bits of codes with these counts, zeros, decay) of the prior that fits them best."""
    zeros = min(15, int(16 * counts[0] // max(1, counts.sum())))
    ways: list[tuple[float, int, int]] = []
    for decay in range(_DECAYS):
        weights = prior(counts.size, negatives, zeros, decay)
        bits = counts * (np.log2(weights.sum()) - np.log2(weights))
        ways.append((round(math.fsum(bits)), zeros, decay))
    return min(ways)


def updates(count: int) -> Iterator[tuple[int, int]]:
    """The stretches of symbols, (start, stop), before each of which the frequencies are made anew.

    The first is 32 symbols long, then each a quarter of what has been seen, at least 32.
    """
    start = 0
    while start < count:
        stop = min(count, start + max(_FIRST_UPDATE, start >> 2))
        yield start, stop
        start = stop


def _blurred(counts: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Weighted by 1, 2, 1 along an axis."""
    blurred = 2 * counts
    low = [slice(None)] * 3
    high = [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    blurred[tuple(low)] += counts[tuple(high)]
    blurred[tuple(high)] += counts[tuple(low)]
    return blurred


def _smoothed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Weighted by 1, 2, 1 from code to code, but for code 0."""
    smooth = 2 * counts
    smooth[..., 0] *= 2
    ordered = counts[..., 1:]
    smooth[..., 2:] += ordered[..., :-1]
    smooth[..., 1:2] += ordered[..., :1]
    smooth[..., 1:-1] += ordered[..., 1:]
    smooth[..., -1:] += ordered[..., -1:]
    return smooth
