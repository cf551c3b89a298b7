"""Operators that give back the symbols of a forest: all of them take each step together.

A step is a dozen operators on arrays, whatever the number of tensors, so that few nodes are folded
when a session starts. All bit planes of a file are one constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from targets.formats.forest import INNER, Forest, Heads
from targets.formats.onnx_operators import Operators
from targets.formats.packing import Bytes

PLANES = ":planes"
TREE = ":tree"


@dataclass
class Planes:
    """The bytes of all planes: collected first, then written and cut."""

    octets: list[Bytes] = field(default_factory=list[Bytes])
    names: list[str] = field(default_factory=list[str])

    def keep(self, planes: Mapping[int, Bytes]) -> dict[int, int]:
        """{width: number of the plane}."""
        found: dict[int, int] = {}
        for width, octets in planes.items():
            found[width] = len(self.octets)
            self.octets.append(octets)
        return found

    def write(self, to: Operators) -> None:
        """One constant, int32, in pieces."""
        whole = to.int32(to.constant(PLANES, np.concatenate(self.octets)))
        self.names = to.split(whole, [octets.size for octets in self.octets])
        for name in self.names:
            to.known_int32(name)

    def named(self, places: Mapping[int, int]) -> dict[int, str]:
        """{width: name}, after `write`."""
        return {width: self.names[place] for width, place in places.items()}


class Forester:
    """Writes what `forest.harvested` does. The planes of `forest` are kept, not yet written."""

    def __init__(self, to: Operators, forest: Forest, planes: Planes) -> None:
        self._to, self._forest, self._planes = to, forest, planes
        self._heads = [planes.keep(heads.planes) for heads in forest.heads]
        self._deep = planes.keep({1: forest.deep}) if forest.levels else {}
        self._zero = to.int(0)

    def streams(self) -> list[str]:
        """The symbols of each stream, int8."""
        to, forest = self._to, self._forest
        inner, values, onward = self._tables()
        found = [
            self._entered(heads, self._planes.named(places))
            for heads, places in zip(forest.heads, self._heads, strict=True)
        ]
        joined = found[0] if len(found) == 1 else to.add("Concat", found, axis=0)
        node = to.int32(joined)
        own = to.add("GatherElements", [values, node])
        passed: list[tuple[str, str]] = []
        for digits in self._bits():
            going = to.add("GatherElements", [inner, node])
            slots = to.add("Mul", [to.add("CumSum", [going, self._zero]), going])
            passed.append((own, slots))
            # Slot 0 takes the node of any symbol whose word has ended, or stays a digit of 0: from
            # each of them one goes to entry 0. The digits are only an array of their number.
            ahead = to.add("ScatterElements", [digits, slots, node])
            node = to.add("Add", [to.add("GatherElements", [onward, ahead]), digits])
            own = to.add("GatherElements", [values, node])
        for level, slots in reversed(passed):
            own = to.add("BitwiseOr", [level, to.add("GatherElements", [own, slots])])
        return forest.kept(to.split(own, forest.cuts))

    def _tables(self) -> tuple[str, str, str]:
        """(1 for each inner node, values of leaves, entry of each inner node's first child)."""
        to, forest = self._to, self._forest
        table = to.int32(to.constant(TREE, forest.table))
        marked = to.add("Equal", [table, to.int(INNER)])
        inner = to.int32(marked)
        leaves = to.add("Where", [marked, self._zero, table])
        values = to.add("Cast", [leaves], to=TensorProto.INT8)
        ordinal = to.add("CumSum", [inner, self._zero])
        twice = to.add("Add", [ordinal, ordinal])
        child = to.add("Add", [twice, to.int(forest.children - 2)])
        return inner, values, to.add("Mul", [inner, child])

    def _bits(self) -> list[str]:
        """Those of each level, int32."""
        to, levels = self._to, self._forest.levels
        if not levels:
            return []
        filler = 8 * self._forest.deep.size - sum(levels)
        deep = to.joined(self._planes.named(self._deep))
        pieces = to.split(deep, [*levels, *([filler] if filler else [])])
        return [to.int32(piece) for piece in pieces[: len(levels)]]

    def _entered(self, heads: Heads, planes: Mapping[int, str]) -> str:
        """The entry of each symbol's first digit, int16 where that is enough.

        The highest plane is looked up in a table that has the rows of a byte for each root; a root
        is even, so that its last bit takes another plane's.
        """
        to = self._to
        # Roots lie before all children.
        kind = TensorProto.INT16 if self._forest.children < 1 << 15 else TensorProto.INT32
        (width, plane), *rest = planes.items()
        below = heads.first - width
        roots = to.value(np.array(heads.roots, np.int32)[:, None, None])
        rows = to.add("Add", [to.int32(to.raised(width, below)), roots])
        table = to.add("Reshape", [rows, to.shape((-1, 8 // width))])
        table = to.add("Cast", [table], to=kind)
        if len(heads.roots) > 1:
            sizes = [octets * width for octets in heads.octets]
            plane = to.add("Add", [plane, rising(to, sizes, 256)])
        found = to.flat(to.add("Gather", [table, plane]))
        if rest:
            low = to.joined(dict(rest))
            found = to.add("BitwiseOr", [found, to.add("Cast", [low], to=kind)])
        return found


def rising(to: Operators, sizes: Sequence[int], step: int) -> str:
    """int32: 0 for the first `sizes[0]` elements, `step` for the next `sizes[1]`, and so on."""
    starts = to.value(np.cumsum(sizes[:-1], dtype=np.int32))
    blank = to.add("Expand", [to.int(0), to.shape((sum(sizes),))])
    steps = to.value(np.full(len(sizes) - 1, step, np.int32))
    return to.add("CumSum", [to.add("ScatterElements", [blank, starts, steps]), to.int(0)])
