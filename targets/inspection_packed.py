"""The tensors of a self-decoding .onnx, each summed up from its values and its bytes.

The values are those that onnxruntime makes of the constants; the net itself is not run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx

from compress.errors import DataError
from targets.formats.forest_graph import PLANES, TREE
from targets.formats.onnx_decoding import Decoding
from targets.formats.packing import PARTS, Array
from targets.inspection import TensorSummary, plain_summary

# Constants that serve every tensor: all bit planes, and the prefix codes' table.
_COMMON = {PLANES: "planes", TREE: "tree"}
# Other constants of the decoding.
SHARED = "decoding"
# Parts that hold all elements of their tensor, or those that its mask keeps.
_HOLDING = frozenset(PARTS) - {"scale", "book", "mask"}


class _Levels(NamedTuple):
    """number: of distinct values. entropy_bits: Shannon's, of all elements, each on its own."""

    number: int
    entropy_bits: float


def packed_parts(graph: onnx.GraphProto) -> dict[str, str]:
    """{constant: what it holds}; empty for a graph without packed tensors.

    A part of one tensor (packing.PARTS), 'planes', 'tree' or 'scale' of several, or 'decoding'.
    """
    made = {str(name) for node in graph.node for name in node.output}
    found: dict[str, str] = {}
    for tensor in graph.initializer:
        owner, _, part = str(tensor.name).rpartition(":")
        if str(tensor.name) in _COMMON:
            found[str(tensor.name)] = _COMMON[str(tensor.name)]
        elif owner in made and part in PARTS:
            found[str(tensor.name)] = part
    if found:
        for tensor in graph.initializer:
            if str(tensor.name).startswith(":"):
                found.setdefault(str(tensor.name), "scale" if _are_scales(tensor) else SHARED)
    return found


def _are_scales(tensor: onnx.TensorProto) -> bool:
    """True for the factors of several tensors: all other floats of the decoding are single."""
    return tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) > 1


def packed_summaries(
    model: onnx.ModelProto, parts_of: Mapping[str, str], source: str
) -> tuple[TensorSummary, ...]:
    """One for each tensor that `model`, read of `source`, decodes. DataError where it does not.

    Its bytes are those of its own parts and of what all tensors share: of that in proportion to
    the entropy of its levels, so that no byte is missing or counted twice. `coding` is 'gaps' or
    'mask' where a zero has no code, else 'dense'.
    """
    if not parts_of:
        return ()
    decoding = Decoding(model, source)
    owned = _owned(decoding, parts_of)
    unmade = sorted(owned.keys() - set(decoding.names))
    if unmade:
        raise DataError(
            f"{source} has parts of {unmade[0]!r}, but does not decode it as a packed file does; "
            "export it anew"
        )
    values = _decoded(decoding, source)
    bare = {name: decoding.before_scale(name) for name in decoding.names}
    levels = {name: _levels(values[bare[name]]) for name in decoding.names}
    sizes = _sizes(decoding, owned, levels)
    return tuple(
        _summary(decoding, name, values[name], owned.get(name, {}), levels[name], sizes[name])
        for name in decoding.names
    )


def _decoded(decoding: Decoding, source: str) -> Mapping[str, Array]:
    """Every tensor of the decoding, also as it is before its scale."""
    # Slow to import, and only for packed files.
    from targets.runtimes.onnxruntime import constant_outputs

    names = dict.fromkeys(decoding.names)
    names.update(dict.fromkeys(map(decoding.before_scale, decoding.names)))
    return constant_outputs(decoding.model(list(names)), source)


def _owned(
    decoding: Decoding, parts_of: Mapping[str, str]
) -> dict[str, dict[str, onnx.TensorProto]]:
    """{tensor: its parts}."""
    owned: dict[str, dict[str, onnx.TensorProto]] = {}
    for name, part in parts_of.items():
        if part in PARTS and not name.startswith(":"):
            owned.setdefault(name.rpartition(":")[0], {})[part] = decoding.constants[name]
    return owned


def _sizes(
    decoding: Decoding,
    owned: Mapping[str, Mapping[str, onnx.TensorProto]],
    levels: Mapping[str, _Levels],
) -> dict[str, int]:
    """The bytes of each tensor."""
    sizes = {name: sum(p.ByteSize() for p in owned.get(name, {}).values()) for name in levels}
    for constant in decoding.constants.keys() & _COMMON.keys():
        takers = [name for name in levels if name in decoding.made_of(constant)]
        bits = [levels[name].entropy_bits for name in takers]
        total = decoding.constants[constant].ByteSize()
        for name, share in zip(takers, shares(total, bits), strict=True):
            sizes[name] += share
    return sizes


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in proportion to `weights` (equally if all are 0), whole numbers of that sum.

    What rounding down leaves goes to the largest remainders.
    """
    if not weights:
        return []
    whole = np.array(weights, np.float64)
    exact = total * (whole / whole.sum() if whole.any() else np.full(whole.size, 1 / whole.size))
    found = np.floor(exact).astype(np.int64)
    order = np.argsort(found - exact, kind="stable")
    found[order[: total - int(found.sum())]] += 1
    return [int(share) for share in found]


def _levels(values: Array) -> _Levels:
    """Zeros are not sorted: they are most of a pruned tensor."""
    kept = values[values != 0]
    counts = np.unique(kept, return_counts=True)[1]
    if kept.size < values.size:
        counts = np.append(counts, values.size - kept.size)
    return _Levels(counts.size, float(counts @ np.log2(values.size / counts)))


def _summary(
    decoding: Decoding,
    name: str,
    values: Array,
    parts: Mapping[str, onnx.TensorProto],
    levels: _Levels,
    size: int,
) -> TensorSummary:
    form = _form(values, parts, levels)
    sparse = "gaps" if decoding.is_scattered(name) else "mask" if "mask" in parts else "dense"
    return replace(
        plain_summary(name, values, size),
        form=form,
        index_bits=None if form in ("half", "masked") else max(1, (levels.number - 1).bit_length()),
        coding=sparse,
    )


def _form(values: Array, parts: Mapping[str, onnx.TensorProto], levels: _Levels) -> str:
    """A prefix code tells integers, of which no codebook is kept: biases are rounded to them."""
    held = parts.get("values", parts.get("book"))
    stored = not _HOLDING.isdisjoint(parts)
    if values.dtype == np.int8 or (stored and _is_int8(held)):
        return "int8"
    if stored and "book" not in parts:
        return "masked" if "mask" in parts else "half"
    weights = values.ndim > 1 and 1 < levels.number < values.size
    return "shared" if "book" in parts or weights else "grid"


def _is_int8(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and tensor.data_type == onnx.TensorProto.INT8
