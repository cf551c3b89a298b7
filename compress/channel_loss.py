"""The scales of a net's channels by which 8 bits lose the least, from what noise costs in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.channel_balance import Columns, GridTensors, balance
from compress.channel_groups import ChannelGroups
from compress.channel_moments import NetMoments, net_moments
from compress.errors import TaskError
from compress.graph import Graph
from compress.placement import SAME_GRID, grid_groups
from compress.task import Batch

Floats = NDArray[np.float64]


def least_loss_scales(
    candidate: Candidate,
    groups: ChannelGroups,
    bounds: tuple[NDArray[np.bool_], Floats],
    bits: Mapping[str, int],
    pictures: Batch,
    seed: int,
) -> Floats:
    """(groups,): by what each channel group is to be divided where it is written.

    bounds: (free, floors) by group: 1 where not free; the least scale otherwise. bits: of weights,
    by layer name, 8 where it has none. Raises TaskError for pictures that give NaN or infinity.
    """
    free, floors = bounds
    seen = net_moments(candidate.network.graph, [pictures], seed)
    _check(seen)
    # One group more, which is fixed, for channels that belong to none.
    fixed = np.append(~(free & _on_both_sides(candidate, groups)), True)
    grids = _grids(candidate.network.graph, groups, seen, len(free))
    levels = {
        layer.weight: 2.0 ** (bits.get(layer.name, 8) - 1) - 1
        for layer in candidate.network.layers()
    }
    columns = _columns(candidate, groups, seen, levels)
    found = balance(grids, columns, fixed, np.append(floors, 1.0))
    return found.scales[:-1]


def _check(seen: NetMoments) -> None:
    for tensor, moments in seen.tensors.items():
        if not all(np.isfinite(v).all() for v in (moments.low, moments.high, moments.curvature)):
            raise TaskError(
                f"EqualizeRanges: calibration gives NaN or infinity in tensor '{tensor}'; check "
                f"the batches' values and the net's weights"
            )


def _on_both_sides(candidate: Candidate, groups: ChannelGroups) -> NDArray[np.bool_]:
    """True for groups that layers write and read: a scale must go out where it came in."""
    written, read = (np.zeros(len(groups.ceilings), np.bool_) for _ in range(2))
    for layer in candidate.network.layers():
        if layer.weight in groups.reads:
            written[groups.writes[layer.weight]] = True
            read[groups.reads[layer.weight]] = True
    return written & read


def _grids(graph: Graph, groups: ChannelGroups, seen: NetMoments, other: int) -> list[GridTensors]:
    """What shares each grid; channels without a group have the number `other`."""
    found: list[GridTensors] = []
    for members in grid_groups(graph):
        parts = [(t, seen.tensors[t]) for t in sorted(members) if t in seen.tensors]
        if not parts:
            continue
        numbers = [groups.tensors.get(t, np.full(len(m.low), other)) for t, m in parts]
        # What only moves values finds them on the grid: nothing is rounded again.
        cost = [m.curvature * (t.operator not in SAME_GRID - {"avg_pool2d"}) for t, m in parts]
        found.append(
            GridTensors(
                np.concatenate(numbers),
                np.concatenate([m.low for _, m in parts]),
                np.concatenate([m.high for _, m in parts]),
                np.concatenate(cost),
            )
        )
    return found


def _columns(
    candidate: Candidate, groups: ChannelGroups, seen: NetMoments, levels: Mapping[str, float]
) -> list[Columns]:
    """The groups of each layer; a depthwise row has one column, whose scale rounds nothing."""
    own = candidate.network.parameters()
    found: list[Columns] = []
    for name, curvature in seen.weights.items():
        reads, weight = groups.reads.get(name), own.get(name)
        if reads is None or weight is None or weight.shape[1] == 1:
            continue
        rows, width = weight.shape[:2]
        largest = np.abs(weight.astype(np.float64)).reshape(rows, width, -1).max(axis=2)
        cost = curvature.reshape(rows, width, -1).sum(axis=2)
        parts = len(reads) // width
        for part in range(parts):
            here = slice(part * rows // parts, (part + 1) * rows // parts)
            there = slice(part * width, (part + 1) * width)
            found.append(Columns(reads[there], largest[here], cost[here], levels.get(name, 127.0)))
    return found
