"""Factors that equalize the ranges of channels: arithmetic on the largest weights, no net.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.1: what writes channel i is divided by s_i, what reads it multiplied.
With s_i = sqrt(r1_i / r2_i) (equation 11; r1 and r2 the ranges on both sides) both have the same
range, and repeated over all layers this converges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.channel_groups import Numbers

Floats = NDArray[np.float64]
_SWEEPS = 500
# Factors that move by less are settled: an 8-bit grid has 127 steps.
_SETTLED = 1e-3
# All layers move at once; the whole way, neighbours would swap their ranges for ever.
_SHARE = 2 / 3
# Weights so far below the layer's largest are nothing beside it in float32.
_SILENT = 2.0**-23


@dataclass(frozen=True, eq=False)
class Sides:
    """A layer's part: the greatest |weight| of each kernel, and the groups of its channels.

    largest: (g, outputs / g, inputs / g) for g groups of the convolution. writes: (outputs,) and
    reads: (inputs,), numbers of channel groups (see channel_groups.py).
    """

    largest: Floats
    writes: Numbers
    reads: Numbers

    def rows(self, scale: Floats) -> Floats:
        """(outputs,): the range of each output's weights, its inputs multiplied by `scale`."""
        blocks, _, count = self.largest.shape
        return (self.largest * scale[self.reads].reshape(blocks, 1, count)).max(2).reshape(-1)

    def columns(self, divisors: Floats) -> Floats:
        """(inputs,): the range of each input's weights, outputs divided by `divisors`."""
        blocks, rows, _ = self.largest.shape
        return (self.largest / divisors.reshape(blocks, rows, 1)).max(1).reshape(-1)


def equalizing(
    layers: Sequence[Sides], free: NDArray[np.bool_], floors: Floats, ranges: Floats | None = None
) -> Floats:
    """s by channel group, 1 where not `free` or where one side has no weights but zeros.

    Without `ranges` also where all weights that write it are under 2**-23 of their layer's largest:
    such a channel is its bias alone, which equal ranges would make huge.
    floors: the least s of each group. ranges: the largest values of each group's activations, which
    then take the place of r1; r2 is relative to the largest weight of the same output there, as a
    scale for each output channel makes it.
    """
    total = np.ones(len(free))
    if ranges is None:
        free = free & _alive(layers, len(free))
    for _ in range(_SWEEPS):
        above = _above(layers, total) if ranges is None else ranges
        below = _below(layers, total, relative=ranges is not None)
        known = free & (above > 0) & (below > 0)
        wanted = np.sqrt(np.divide(above, below, out=np.ones(len(free)), where=known))
        moved = np.where(known, np.maximum(total * (wanted / total) ** _SHARE, floors), 1.0)
        settled = np.abs(np.log(moved / total)).max(initial=0.0) < _SETTLED
        total = moved
        if settled:
            break
    return total


def _alive(layers: Sequence[Sides], count: int) -> NDArray[np.bool_]:
    rows = [(la.writes, la.rows(np.ones(count))) for la in layers]
    return _most(count, ((w, r / (r.max(initial=0) or 1)) for w, r in rows)) >= _SILENT


def _above(layers: Sequence[Sides], total: Floats) -> Floats:
    """r1, times the group's own s: the range of all weights that write it."""
    return _most(len(total), ((la.writes, la.rows(total)) for la in layers))


def _below(layers: Sequence[Sides], total: Floats, *, relative: bool) -> Floats:
    """r2, divided by the group's own s: the range of all weights that read it."""
    parts: list[tuple[Numbers, Floats]] = []
    for layer in layers:
        divisors = layer.rows(total) if relative else total[layer.writes]
        parts.append((layer.reads, layer.columns(np.where(divisors > 0, divisors, 1.0))))
    return _most(len(total), parts)


def _most(count: int, parts: Iterable[tuple[Numbers, Floats]]) -> Floats:
    found = np.zeros(count)
    for where, values in parts:
        np.maximum.at(found, where, values)
    return found
