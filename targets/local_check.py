"""Where a file parts from its candidate: each operator judged alone, on the file's own inputs.

The candidate's arithmetic runs once, but every tensor that the file has too is replaced by the
file's values before the next operator reads it. So rounding does not add up from layer to layer,
one step of the grid is all that two right kernels may differ by, and the first tensor that the
file does not have is where it went wrong. Tensors are told by their values, element by element:
no format's names or layouts are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.graph import Graph, TensorId, TensorNode
from compress.placement import ACTIVATIONS, SAME_GRID
from compress.simulate import integer_weight, on_grid, simulate

FloatArray = NDArray[np.float32]
# One operator of a float file: another order of summation, nothing else.
FLOAT_TOLERANCE = 1e-4
# One operator of an integer file: requantization by another multiplier may round the other way,
# so one step, and only where the value lies next to the middle of two. How often that is so:
# - A layer with weights multiplies a whole sum by m = s_x * s_w / s_y, so that one sum in 1/m lies
#   next to a middle. LiteRT's fixed-point multiplier parts in 0.7 m of the elements (0.0002 to
#   0.006 in LeNet-5, ResNet-20 and three small nets), onnxruntime's in 0.00006 at most. 2 m are
#   allowed, and SHIFTED of the elements in any case.
# - Means of n integers lie exactly there once in n, sums of two on one grid every other time, and
#   half of those part where a kernel rounds away from zero: LEVEL.
# Of few elements chance takes more: three standard errors. On another grid than asked for nearly
# all elements part.
# Where weights have few levels, or most elements are 0, these shares mean little: then each
# element that parts is looked at by itself (`_explained`).
STEP_TOLERANCE = 1.01
SHIFTED = 0.01
LEVEL = 0.3
_LEVELLING = frozenset({"add", "mean", "avg_pool2d", "adaptive_avg_pool2d"})
_OFF = 0.01
# In steps: five roundings of float32 numbers of at most 256.
_TIE = 1e-4
_MOVES = SAME_GRID - {"avg_pool2d"}


@dataclass(frozen=True)
class Local:
    """One tensor of the candidate and the file's tensor that is nearest to it.

    error: largest difference, in steps of the tensor's grid (`in_steps`) or as a fraction of its
    largest magnitude. off: fraction that differs at all, of the elements that are not 0 in both;
    allowed: that fraction's limit. explained: each element that differs lies where two right
    kernels may part. name '' where the file has nothing of that size.
    """

    tensor: TensorId
    name: str
    error: float
    off: float
    in_steps: bool
    allowed: float = 0.0
    explained: bool = False

    @property
    def right(self) -> bool:
        """True where the file's tensor is the candidate's."""
        if self.in_steps:
            few = self.off <= self.allowed or self.explained
            return self.error <= STEP_TOLERANCE and few
        return self.error <= FLOAT_TOLERANCE

    def __str__(self) -> str:
        if not self.name:
            return f"{self.tensor} (the file has no tensor of its size)"
        if self.in_steps:
            text = (
                f"error {self.error:.3g} steps in {self.off:.1%} of the elements, "
                f"{STEP_TOLERANCE:.3g} steps in {self.allowed:.1%} are allowed"
            )
        else:
            text = (
                f"error {self.error:.3g} of the largest magnitude, {FLOAT_TOLERANCE:.3g} is allowed"
            )
        return f"{self.tensor} (file's tensor {self.name!r}: {text})"


def local_errors(
    candidate: Candidate, tensors: Mapping[str, FloatArray], pictures: FloatArray
) -> dict[TensorId, Local]:
    """Each of the candidate's tensors against the file's `tensors` for the same `pictures`."""
    found: dict[TensorId, Local] = {}

    def see(tensor: TensorId, exact: torch.Tensor) -> torch.Tensor:
        grid = candidate.activations.get(tensor)
        value = exact if grid is None else on_grid(exact, grid)
        mine = value.float().numpy().copy()
        local, twin = _nearest(candidate, tensor, mine, tensors)
        if local.in_steps and not local.right:
            assert grid is not None
            steps = exact.double().numpy() / float(np.float32(grid.scale))
            parted = np.abs(twin - mine) > _OFF * float(np.float32(grid.scale))
            explained = _explained(candidate, tensor, steps, parted)
            local = replace(local, explained=explained)
        found[tensor] = local
        return exact.new_tensor(twin) if local.right else value

    simulate(candidate).run(torch.from_numpy(pictures), see)
    return found


def _explained(
    candidate: Candidate, tensor: TensorId, steps: NDArray[np.float64], parted: NDArray[np.bool_]
) -> bool:
    """True where each element that parted lies as near to the middle of two steps as it may.

    `steps`: what the layer computes before it is rounded, in steps of its grid. A fixed-point
    multiplier m = f 2^-s, f in [0.5, 1), rounds twice (Jacob et al., arXiv:1712.05877, section
    2.2): first to a 2^s-th of a step, which may move the element by half of that, and at the
    middle where it arrives the second rounding goes away from zero.
    """
    node = _computing(candidate, tensor)
    multiplier = _multiplier(candidate, node, tensor)
    if multiplier is None:
        return False
    shift = -np.frexp(multiplier)[1]
    reach = np.where(shift > 0, np.exp2(-shift - 1.0), 0.0) + _TIE
    reach = reach.reshape(-1, *(1,) * (steps.ndim - 2))
    to_middle = np.abs(steps - np.floor(steps) - 0.5)
    return bool(np.all((to_middle <= reach)[parted]))


def first_parting(candidate: Candidate, locals_: Mapping[TensorId, Local]) -> Local | None:
    """The first tensor that the file computes wrongly, or None.

    A tensor that the file does not have is not wrong where all that is computed from it is right:
    converters fuse and drop tensors, but never one that is computed onto a grid of its own. One
    that only moves values is not blamed either: what reads it is.
    """
    graph = candidate.network.graph
    fine: set[TensorId] = set()
    for node in reversed(graph.nodes):
        readers = graph.consumers[node.id]
        # All readers: one half of a split may be right where the other is not.
        forgiven = readers and all(reader.id in fine for reader in readers)
        needed = node.id in candidate.activations and node.id.operator not in _MOVES
        if locals_[node.id].right or (forgiven and not needed):
            fine.add(node.id)
    claimed = {local.name for local in locals_.values() if local.right}
    for node in graph.nodes:
        if node.id in fine:
            continue
        dropped = node.id.operator in _MOVES and node.id not in graph.outputs
        if not dropped:
            return _shown(graph, node.id, locals_, claimed)
    return None


def _shown(
    graph: Graph, first: TensorId, locals_: Mapping[TensorId, Local], claimed: set[str]
) -> Local:
    """`first` with the file's tensor nearest to it, or to what fuses with it."""
    chain = [first]
    while (reader := graph.feeds_only(chain[-1])) is not None:
        if reader.id.operator not in ACTIVATIONS | {"batch_norm"}:
            break
        chain.append(reader.id)
    there = [locals_[t] for t in chain if locals_[t].name and locals_[t].name not in claimed]
    if not there:
        return locals_[first]
    best = min(there, key=lambda local: local.error)
    return replace(best, tensor=first)


def _nearest(
    candidate: Candidate, tensor: TensorId, value: FloatArray, tensors: Mapping[str, FloatArray]
) -> tuple[Local, FloatArray]:
    """The file's tensor nearest to `value`, and its values in the candidate's layout.

    One that is right comes first: where a grid follows a float layer, the floats before rounding
    are all within half a step, and the codes of two right kernels now and then a whole one apart.
    """
    grid = candidate.activations.get(tensor)
    magnitude = float(np.abs(value).max(initial=0.0))
    unit = float(np.float32(grid.scale)) if grid is not None else (magnitude or 1.0)
    share = _share(candidate, tensor) if grid is not None else 0.0
    best = (Local(tensor, "", np.inf, 1.0, grid is not None), value)
    for name, values in tensors.items():
        for form in layouts(values, value.shape):
            difference = np.abs(form - value)
            error = float(difference.max(initial=0.0)) / unit
            may_be_right = grid is not None and not best[0].right and error <= STEP_TOLERANCE
            if not (error < best[0].error or may_be_right):
                continue
            counted = difference[(form != 0) | (value != 0)]
            off = float(np.mean(counted > _OFF * unit)) if counted.size else 0.0
            limit = share + 3 * float(np.sqrt(share / max(1, counted.size)))
            local = Local(tensor, name, error, off, grid is not None, limit)
            if (not local.right, local.error) < (not best[0].right, best[0].error):
                best = (local, np.ascontiguousarray(form, np.float32))
    return best


def _share(candidate: Candidate, tensor: TensorId) -> float:
    """The fraction of a right tensor's elements that may round the other way."""
    node = _computing(candidate, tensor)
    if node.id.operator in _LEVELLING:
        return LEVEL
    multiplier = _multiplier(candidate, node, tensor)
    if multiplier is None:
        return SHIFTED
    return min(LEVEL, max(SHIFTED, 2 * float(np.mean(multiplier))))


def _computing(candidate: Candidate, tensor: TensorId) -> TensorNode:
    """The operator that computes `tensor`'s values.

    An activation function that fuses into the operator before it rounds what that computes.
    """
    graph = candidate.network.graph
    node = graph.by_id[tensor]
    if node.id.operator in ACTIVATIONS and node.inputs[0] not in candidate.activations:
        return graph.by_id[node.inputs[0]]
    return node


def _multiplier(
    candidate: Candidate, node: TensorNode, tensor: TensorId
) -> NDArray[np.float64] | None:
    """s_x s_w / s_y of a layer on integers, for each channel or one in all; else None."""
    weight = integer_weight(candidate, node) if "weight" in node.parameters else None
    source = candidate.activations.get(node.inputs[0]) if weight is not None else None
    if weight is None or source is None:
        return None
    scales = np.abs(weight.scale.astype(np.float64)) * float(np.float32(source.scale))
    return scales.reshape(-1) / float(np.float32(candidate.activations[tensor].scale))


def layouts(values: FloatArray, shape: Sequence[int]) -> Iterator[FloatArray]:
    """`values` in the forms that a file may hold a tensor of `shape` in (batch first)."""
    wanted = tuple(shape)
    if values.ndim == len(wanted) == 4 and values.shape[1] > wanted[1]:
        channels, behind = values[:, : wanted[1]], values[:, wanted[1] :]
        if channels.shape == wanted and not behind.any():
            yield channels  # widened by zeros for the engine's sake
            return
    if values.size != int(np.prod(wanted)) or (wanted and values.shape[:1] != wanted[:1]):
        return
    if values.shape == wanted:
        yield values
    elif _long(values.shape) == _long(wanted):
        yield values.reshape(wanted)
    if values.ndim == 4:
        first = values.transpose(0, 3, 1, 2)
        if first.shape == wanted:
            yield first
        elif len(wanted) == 2:
            # A flattened picture: rows in the candidate's order of channel, height, width.
            yield first.reshape(wanted)
            yield values.reshape(wanted)


def _long(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes that are not 1, the batch always."""
    return (*shape[:1], *(size for size in shape[1:] if size != 1))
