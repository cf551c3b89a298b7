"""Nodes and constants that a self-decoding graph is made of, each common one made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto, helper

from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.packing import OCTET


@dataclass
class Operators:
    """Appends to `sheet`. Names of its own begin with a colon."""

    sheet: Sheet
    _made: dict[str, str] = field(default_factory=dict[str, str])
    _count: int = 0

    def trial(self) -> Operators:
        """A copy whose sheet knows the same constants and has no nodes yet."""
        return Operators(Sheet(dict(self.sheet.constants), []), dict(self._made), self._count)

    def add(self, operator: str, inputs: list[str], output: str = "", **options: int | str) -> str:
        """A node with one output; its name."""
        output = output or self._new()
        self._append(operator, inputs, [output], options)
        return output

    def split(self, tensor: str, sizes: Sequence[int], names: Sequence[str] = ()) -> list[str]:
        """The pieces of a flat tensor, under their `names` where those are not empty."""
        pieces = [name or self._new() for name in names or [""] * len(sizes)]
        self._append("Split", [tensor, self.shape(sizes)], pieces, {})
        return pieces

    def constant(self, name: str, values: Array) -> str:
        """A constant of this name, which is told."""
        self.sheet.keep(name, values)
        return name

    def value(self, values: Array | np.generic) -> str:
        """A constant; equal ones are one."""
        array = np.asarray(values)
        key = f"value {array.dtype} {array.shape} {array.tobytes().hex()}"
        return self.once(key, lambda: self.constant(self._new(), array))

    def once(self, key: str, make: Callable[[], str]) -> str:
        """What `make` gave for this key, the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def flat(self, tensor: str) -> str:
        return self.add("Reshape", [tensor, self.shape((-1,))])

    def int32(self, tensor: str) -> str:
        return self.once(
            f"int32 {tensor}", lambda: self.add("Cast", [tensor], to=TensorProto.INT32)
        )

    def known_int32(self, tensor: str) -> None:
        """It is int32 already."""
        self.once(f"int32 {tensor}", lambda: tensor)

    def int(self, value: int) -> str:
        return self.value(np.array(value, np.int32))

    def shape(self, shape: Sequence[int]) -> str:
        return self.value(np.array(shape, np.int64))

    def rows(self, width: int) -> str:
        """packing.rows(width), uint8: a byte is looked up, not taken apart."""

        def make() -> str:
            every = self.value(np.arange(256, dtype=np.uint8)[:, None])
            shifts = np.arange(8 - width, -1, -width, dtype=np.uint8)
            shifted = self.add("BitShift", [every, self.value(shifts)], direction="RIGHT")
            top = self.value(np.array((1 << width) - 1, np.uint8))
            return self.add("BitwiseAnd", [shifted, top])

        return self.once(f"rows{width}", make)

    def raised(self, width: int, below: int) -> str:
        """The rows, `below` bits higher."""

        def make() -> str:
            steps = self.value(np.array(below, np.uint8))
            return self.add("BitShift", [self.rows(width), steps], direction="LEFT")

        return self.once(f"rows{width} << {below}", make) if below else self.rows(width)

    def joined(self, planes: Mapping[int, str]) -> str:
        """uint8 codes, flat, out of the constants of their planes by width, highest first."""
        below, found = sum(planes), ""
        for width, plane in planes.items():
            below -= width
            rows = self.add("Gather", [self.raised(width, below), self.int32(plane)])
            part = self.flat(rows)
            found = self.add("BitwiseOr", [found, part]) if found else part
        return found

    def cut(self, tensor: str, count: int) -> str:
        """The first `count` of a flat tensor that is filled up to octets."""
        if count % OCTET == 0:
            return tensor
        return self.add("Slice", [tensor, self.shape((0,)), self.shape((count,))])

    def plus_zero(self, tensor: str, output: str = "") -> str:
        """An Add of zero would be taken for nothing and removed; 0.0 + -0.0 is 0.0."""
        return self.add("Sum", [tensor, self.value(np.float32(0))], output)

    def _new(self) -> str:
        self._count += 1
        return f":{np.base_repr(self._count, 36).lower()}"

    def _append(
        self, operator: str, inputs: list[str], outputs: list[str], options: dict[str, int | str]
    ) -> None:
        node = helper.make_node(operator, inputs, outputs)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
        self.sheet.nodes.append(node)


def embedded_bytes(message: NodeProto | TensorProto) -> int:
    """What a node or constant takes in the file: its own bytes, its tag and its length."""
    size = message.ByteSize()
    return size + 1 + max(1, -(-size.bit_length() // 7))
