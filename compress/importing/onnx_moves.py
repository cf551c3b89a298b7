"""Operators that move values without computing: reshapes, slices, concatenations, padding.

What a file has as fixed shapes was written for one number of pictures. Where the axis of the
pictures lies after a reshape follows from row-major order: behind the same count of elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from compress.errors import ModelError
from compress.importing.building import Constant, NetBuilder, Shape, Value
from compress.importing.onnx_operator import Importer, Operator, checked_axis


def reshape(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    given = op.listed("shape", 1) or ()
    copied = not op.whole("allowzero", 0)
    wanted = [source.shape[i] if n == 0 and copied else n for i, n in enumerate(given)]
    count = math.prod(source.shape)
    rest = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and rest > 0:
        wanted[wanted.index(-1)] = count // rest
    if min(wanted, default=1) < 1 or math.prod(wanted) != count:
        raise ModelError(f"it gives {source.shape} the shape {list(given)}")
    return reshaped(net, source, tuple(wanted))


def reshaped(net: NetBuilder, source: Value, shape: Shape) -> Value:
    """`source` with `shape` (that for the file's number of pictures), for any number of them."""
    axis = source.batch_axis
    if axis is None:
        return net.call(torch.reshape, source, shape)
    before, place, done = math.prod(source.shape[:axis]), 0, 1
    while done < before and place < len(shape):
        done, place = done * shape[place], place + 1
    if done != before or place == len(shape):
        raise ModelError(f"it mixes the pictures of a batch: {source.shape} becomes {shape}")
    if place == 0 and axis == 0 and len(shape) == 2 and shape[0] == source.shape[0]:
        return net.call(torch.flatten, source, 1)
    return net.call(torch.reshape, source, (*shape[:place], -1, *shape[place + 1 :]))


def flatten(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    axis = op.whole("axis", 1)
    axis = axis if axis == len(source.shape) else checked_axis(axis, len(source.shape))
    return reshaped(net, source, (math.prod(source.shape[:axis]), math.prod(source.shape[axis:])))


def squeeze(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    rank = len(source.shape)
    axes = op.listed("axes", 1)
    if axes is None:
        axes = tuple(i for i, n in enumerate(source.shape) if n == 1 and i != source.batch_axis)
    wanted = sorted({checked_axis(axis, rank) for axis in axes})
    if any(source.shape[axis] != 1 for axis in wanted):
        raise ModelError(f"it takes the axes {wanted} from shape {source.shape}; only 1s can go")
    return reshaped(net, source, tuple(n for i, n in enumerate(source.shape) if i not in wanted))


def unsqueeze(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    axes = op.listed("axes", 1) or ()
    rank = len(source.shape) + len(axes)
    for axis in sorted({checked_axis(axis, rank) for axis in axes}):
        source = net.call(torch.unsqueeze, source, axis)
    return source


def transpose(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    rank = len(source.shape)
    order = op.wholes("perm", tuple(reversed(range(rank))))
    if sorted(order) != list(range(rank)):
        raise ModelError(f"it orders {rank} axes as {list(order)}")
    moved = [i for i, axis in enumerate(order) if i != axis]
    if not moved:
        return source
    if len(moved) == 2:  # as the nets themselves say it, in a channel shuffle
        return net.call(torch.transpose, source, moved[0], moved[1])
    return net.call(torch.permute, source, order)


def concat(net: NetBuilder, op: Operator) -> Value:
    parts = [net.tensor(p) if isinstance(p, Constant) else p for p in op.inputs]
    values = [part for part in parts if isinstance(part, Value)]
    rank = len(values[0].shape)
    if len(values) != len(parts) or any(v.batch_axis != values[0].batch_axis for v in values):
        raise ModelError("it joins what depends on the picture with what does not")
    return net.call(torch.cat, values, op.axis(1, rank))


def split(net: NetBuilder, op: Operator) -> tuple[Value, ...]:
    source = op.value()
    axis = op.axis(0, len(source.shape))
    _leave_batch(source, axis)
    size, parts = source.shape[axis], op.whole("num_outputs", op.outputs)
    lengths = op.listed("split", 1)
    if lengths is None:
        each = -(-size // parts)
        lengths = (*(each,) * (parts - 1), size - each * (parts - 1))
    if min(lengths) < 1 or sum(lengths) != size:
        raise ModelError(f"it splits an axis of {size} into {list(lengths)}")
    if len(set(lengths)) == 1:
        return net.call_many(torch.chunk, source, len(lengths), axis)
    return net.call_many(torch.split, source, list(lengths), axis)


def slices(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    rank = len(source.shape)
    starts, ends = op.listed("starts", 1) or (), op.listed("ends", 2) or ()
    axes = op.listed("axes", 3) or tuple(range(len(starts)))
    steps = op.listed("steps", 4) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ModelError(f"it has {len(starts)} starts and {len(ends)} ends")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        source = _slice(net, source, checked_axis(axis, rank), (start, end, step))
    return source


def _slice(net: NetBuilder, source: Value, axis: int, bounds: tuple[int, int, int]) -> Value:
    size = source.shape[axis]
    if bounds[2] < 1:
        raise ModelError(f"it goes backwards (step {bounds[2]}); steps from 1 are supported")
    first, last, step = slice(*bounds).indices(size)
    if (first, last, step) == (0, size, 1):
        return source
    _leave_batch(source, axis)
    if last <= first:
        raise ModelError(f"it leaves nothing of an axis of {size}: {first} to {last}")
    return net.call(torch.ops.aten.slice.Tensor, source, axis, first, last, step)


def gather(net: NetBuilder, op: Operator) -> Value:
    source, indices = op.value(), op.constant(1)
    axis = op.axis(0, len(source.shape))
    _leave_batch(source, axis)
    size = source.shape[axis]
    if indices.ndim > 1 or indices.size < 1 or not ((-size <= indices) & (indices < size)).all():
        raise ModelError(f"its indices, of shape {indices.shape}, do not fit an axis of {size}")
    if indices.ndim == 0:
        return net.call(torch.select, source, axis, int(indices) % size)
    order = net.tensor(Constant(indices % size, op.constant_name(1)))
    return net.call(torch.index_select, source, axis, order)


def pad(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    rank = len(source.shape)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    mode = modes.get(op.get("mode", "constant"))
    given = op.listed("pads", 1) or ()
    axes = op.listed("axes", 3) or tuple(range(rank))
    if mode is None or len(given) != 2 * len(axes):
        raise ModelError(f"its mode is {op.get('mode', '')!r}, its padding {list(given)}")
    ends = {checked_axis(a, rank): (given[i], given[i + len(axes)]) for i, a in enumerate(axes)}
    changed = [axis for axis, end in ends.items() if any(end)]
    if not changed:
        return source
    if source.batch_axis in changed:
        raise ModelError("it pads the axis of the pictures")
    fill = op.optional(2)
    value = float(op.get("value", 0.0) if fill is None else fill.reshape(-1)[0])
    last = [n for axis in reversed(range(min(changed), rank)) for n in ends.get(axis, (0, 0))]
    if mode == "constant":
        return net.call(F.pad, source, last, mode, value)
    if min(changed) < 2:
        raise ModelError(f"its mode {mode!r} pads other axes than height and width")
    return net.call(F.pad, source, [*last, *(0,) * (4 - len(last))], mode)


def resize(net: NetBuilder, op: Operator) -> Value:
    """Nearest neighbour by whole factors, where every engine repeats pixels alike."""
    source = op.value()
    old = op.kind == "Upsample" or op.opset < 11
    factors = op.attributes.get("scales")
    given = op.optional(1 if old else 2) if factors is None else None
    if given is not None and given.size:
        factors = given.reshape(-1).tolist()
    elif factors is None:
        sizes = op.optional(3)
        wanted = source.shape if sizes is None else sizes.reshape(-1).tolist()
        factors = [n / m for n, m in zip(wanted, source.shape, strict=True)]
    origin = op.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = op.get("nearest_mode", "floor" if old else "round_prefer_floor")
    repeats = (origin == "asymmetric" and rounding == "floor") or (
        origin in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    )
    whole = all(f == int(f) and f >= 1 for f in factors)
    if op.get("mode", "nearest") != "nearest" or not repeats or not whole or len(factors) != 4:
        raise ModelError("only nearest neighbours by whole factors are supported")
    if factors[0] != 1 or factors[1] != 1:
        raise ModelError(f"it repeats pictures or channels (factors {list(factors)})")
    size = (source.shape[2] * int(factors[2]), source.shape[3] * int(factors[3]))
    return net.call(F.interpolate, source, size, mode="nearest")


def _leave_batch(source: Value, axis: int) -> None:
    if axis == source.batch_axis:
        raise ModelError(f"it takes pictures of a batch apart (axis {axis} of {source.shape})")


MOVES: Mapping[str, Importer] = {
    "Concat": concat,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slices,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
