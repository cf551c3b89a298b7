"""Operators that make tensors out of the symbols of their bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper

from targets.formats.forest import harvested, planted
from targets.formats.forest_graph import Forester, Planes, rising
from targets.formats.grouping import Bundle, Group, grown_for
from targets.formats.integers import IntegerTensor
from targets.formats.onnx_operators import Operators
from targets.formats.packing import packed_planes
from targets.formats.prefix_tree import Integers

# Elements of a bundle.
_MANY = 1 << 16
# What integers become before they are looked up or multiplied.
_WANTED = {"grid": TensorProto.FLOAT, "book": TensorProto.INT32, "int8": TensorProto.INT8}
# An operator, its inputs ("": what the step before gave) and its attributes.
_Step = tuple[str, list[str], dict[str, int]]


class _Ending(NamedTuple):
    """What is still to do to a tensor's elements. scale: the name of what multiplies them."""

    tensor: IntegerTensor
    scale: str | None
    cast: bool = False


def write_bundles(to: Operators, bundles: Sequence[Bundle], step_bits: float) -> None:
    """Make every tensor of `bundles`, under its name."""
    planes = Planes()
    trees, streams = grown_for(bundles, step_bits)
    forest = planted(trees, streams)
    assert all(map(np.array_equal, harvested(forest), streams))
    forester = Forester(to, forest, planes)
    lows = [
        planes.keep(packed_planes(elements & (1 << group.low) - 1, group.low)) if group.low else {}
        for bundle in bundles
        for group, (_, elements) in zip(bundle.groups, bundle.told, strict=True)
    ]
    planes.write(to)
    symbols, names = iter(forester.streams()), iter([planes.named(low) for low in lows])
    for bundle in bundles:
        steps: list[str] = []
        elements: list[str] = []
        for group, (_, own) in zip(bundle.groups, bundle.told, strict=True):
            steps += [next(symbols)] if bundle.sparse else []
            elements.append(_lowered(to, group, own, next(symbols), next(names)))
        flat = _joined(to, elements)
        if bundle.sparse:
            flat = _scattered(to, bundle, _joined(to, steps), flat)
        _finish(to, bundle, flat)


def _lowered(
    to: Operators, group: Group, elements: Integers, symbols: str, planes: dict[int, str]
) -> str:
    """Elements with their low bits, of the group's `_type`."""
    if not group.low:
        return symbols
    low = to.cut(to.joined(planes), elements.size)
    if not group.wide:
        return to.add("BitwiseOr", [symbols, to.add("Cast", [low], to=TensorProto.INT8)])
    if _type(group) == TensorProto.UINT8:
        codes = to.add("Cast", [symbols], to=TensorProto.UINT8)
        shift = to.value(np.array(group.low, np.uint8))
        return to.add("BitwiseOr", [to.add("BitShift", [codes, shift], direction="LEFT"), low])
    high = to.add("Mul", [to.int32(symbols), to.int(1 << group.low)])
    return to.add("Add", [high, to.int32(low)])


def _type(group: Group) -> int:
    """Of a group's integers in the graph: the smallest that holds them."""
    if not group.wide:
        return TensorProto.INT8
    least, largest = int(group.integers.min()), int(group.integers.max())
    return TensorProto.UINT8 if least >= 0 and largest < 1 << 8 else TensorProto.INT32


def _joined(to: Operators, pieces: Sequence[str]) -> str:
    return pieces[0] if len(pieces) == 1 else to.add("Concat", list(pieces), axis=0)


def _scattered(to: Operators, bundle: Bundle, steps: str, elements: str) -> str:
    """All integers of a sparse bundle: zero but for the elements; one zero lies before them."""
    places = to.add("CumSum", [to.int32(steps), to.int(0)])
    kind = helper.tensor_dtype_to_np_dtype(_type(bundle.groups[0]))
    nothing = to.value(np.zeros((), kind))
    blank = to.add("Expand", [nothing, to.shape((bundle.size + 1,))])
    return to.add("ScatterElements", [blank, places, elements])


def _finish(to: Operators, bundle: Bundle, flat: str) -> None:
    """The tensors of a bundle out of their integers."""
    tensors, kind = bundle.tensors, bundle.tensors[0].kind
    # What is done for all at once saves bytes; done for each it saves memory, for all that was
    # computed is kept until the last operator is folded.
    together = bundle.size < _MANY
    wanted = _WANTED[kind]
    cast = wanted != _type(bundle.groups[0])
    if cast and (together or (bundle.sparse and kind != "book")):
        flat, cast = to.add("Cast", [flat], to=wanted), False
    scales = [t.scale for t in tensors if t.scale is not None and t.scale.size == 1]
    if not len(scales) == len(tensors) > 1:
        _end(to, bundle, [_Ending(tensor, _scale(to, tensor), cast) for tensor in tensors], flat)
        return
    factors = np.concatenate([scale.reshape(1) for scale in scales])
    if together and kind == "grid":
        # The piece in front, if there is one, takes any.
        cuts = _cuts(bundle)
        each = to.value(np.resize(factors[::-1], len(cuts))[::-1])
        flat = to.add("Mul", [flat, to.add("GatherElements", [each, rising(to, cuts, 1)])])
        if any(tensor.negative_zeros for tensor in tensors):
            flat = to.plus_zero(flat)
        _end(to, bundle, [_Ending(tensor, None) for tensor in tensors], flat)
    else:
        pieces = to.split(to.value(factors), [1] * len(tensors))
        _end(to, bundle, [_Ending(*p, cast) for p in zip(tensors, pieces, strict=True)], flat)


def _scale(to: Operators, tensor: IntegerTensor) -> str | None:
    if tensor.scale is None:
        return None
    scale = tensor.scale.reshape(()) if tensor.scale.size == 1 else tensor.scale
    return to.constant(f"{tensor.name}:scale", scale)


def _cuts(bundle: Bundle) -> list[int]:
    sizes = [tensor.integers.size for tensor in bundle.tensors]
    return [1, *sizes] if bundle.sparse else sizes


def _end(to: Operators, bundle: Bundle, endings: Sequence[_Ending], flat: str) -> None:
    """Cut the tensors of a bundle and give each its name."""
    ready = [_steps(to, ending) for ending in endings]
    names = [ending.tensor.name for ending in endings]
    cuts = _cuts(bundle)
    if len(cuts) == 1:
        pieces = [flat]
        ready[0] = ready[0] or [("Reshape", ["", to.shape((-1,))], {})]
    else:
        # What is ready is a piece itself.
        own = ["" if steps else name for steps, name in zip(ready, names, strict=True)]
        pieces = to.split(flat, cuts, [*[""] * (len(cuts) - len(own)), *own])[-len(own) :]
    for start, steps, name in zip(pieces, ready, names, strict=True):
        piece = start
        for place, (operator, inputs, options) in enumerate(steps):
            last = place == len(steps) - 1
            sources = [source or piece for source in inputs]
            piece = to.add(operator, sources, name if last else "", **options)


def _steps(to: Operators, ending: _Ending) -> list[_Step]:
    """The operators behind a tensor's elements, which are flat."""
    tensor = ending.tensor
    steps: list[_Step] = []
    cast: list[_Step] = [("Cast", [""], {"to": _WANTED[tensor.kind]})] if ending.cast else []
    if tensor.book is not None:
        book = to.constant(f"{tensor.name}:book", tensor.book)
        steps += [*cast, ("GatherElements", [book, ""], {})]
        cast = []
    if len(tensor.shape) != 1:
        steps.append(("Reshape", ["", to.shape(tensor.shape)], {}))
    steps += cast
    if ending.scale is not None:
        steps.append(("Mul", ["", ending.scale], {}))
        if tensor.negative_zeros:
            steps.append(("Sum", ["", to.value(np.float32(0))], {}))
    return steps
