"""Operators that give a packed tensor back; onnxruntime runs them once, when a session starts.

A byte is looked up, not taken apart: a table has a row of 8, 4 or 2 codes (or already their
values) for each of the 256 bytes, so that a plane is one Gather. The tables are made of 256 bytes
by the graph itself and serve every tensor. Only bytes and int32 are as large as a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto, helper

from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.packing import OCTET, Packed, plane_widths

# Before every rank of an element, so that the zeros' own come out below 0.
_BELOW = -(1 << 30)


@dataclass
class Unpacker:
    """Writes operators and constants into `sheet`. Its own tensors' names begin with a colon."""

    sheet: Sheet
    _made: dict[str, str] = field(default_factory=dict[str, str])
    _count: int = 0

    def write(self, name: str, packed: Packed) -> None:
        """Make the tensor `name`; its parts become the constants `name:part`."""
        parts = packed.parts
        for part, values in parts.items():
            self.sheet.keep(f"{name}:{part}", values)
        final = "" if "scale" in parts else name
        if "mask" in parts:
            values = self._scattered(name, packed, final)
        elif "values" in parts:
            values = self._add("Cast", [f"{name}:values"], final, to=TensorProto.FLOAT)
        else:
            values = self._dense(name, packed, final)
        if "scale" in parts:
            final = "" if packed.negative_zeros else name
            values = self._add("Mul", [values, f"{name}:scale"], final)
        if packed.negative_zeros:
            # An Add of zero would be taken for nothing and removed; 0.0 + -0.0 is 0.0.
            self._add("Sum", [values, self._constant(":zero", np.float32(0))], name)

    def cost(self, name: str, packed: Packed) -> int:
        """Bytes that `write` would add to the file; nothing is written."""
        known = self.sheet.constants
        trial = Unpacker(Sheet(dict(known), []), dict(self._made), self._count)
        trial.write(name, packed)
        new = (tensor for key, tensor in trial.sheet.constants.items() if key not in known)
        return sum(map(embedded_bytes, (*trial.sheet.nodes, *new)))

    def _dense(self, name: str, packed: Packed, final: str) -> str:
        """Every element has its code."""
        widths = _widths(packed)
        if not widths:
            return self._add("Gather", [self._book(name, packed), self._whole(name, packed)], final)
        if len(widths) == 1:
            values = self._row_values(name, packed, widths[0])
            return self._shaped(values, packed.shape, final)
        codes = self._shaped(self._codes(name, widths), packed.shape, "")
        return self._add("Gather", [self._book(name, packed), self._int32(codes)], final)

    def _scattered(self, name: str, packed: Packed, final: str) -> str:
        """Elements of the mask's ones, in order, and zero elsewhere."""
        few = self._few(name, packed)
        mask = self._int32(f"{name}:mask")
        counts = self._add("Gather", [self._ones(), mask])
        before = self._add("CumSum", [counts, self._int("0", 0)], exclusive=1)
        ranks = self._add("Add", [self._add("Gather", [self._ranks(), mask]), before])
        places = self._add("Max", [ranks, self._int("0", 0)])
        return self._shaped(self._add("Gather", [few, places]), packed.shape, final)

    def _few(self, name: str, packed: Packed) -> str:
        """A zero and the kept elements, flat."""
        if "values" in packed.parts:
            if packed.parts["values"].dtype == np.float32:
                return f"{name}:values"
            return self._add("Cast", [f"{name}:values"], to=TensorProto.FLOAT)
        widths = _widths(packed)
        if not widths:
            return self._add("Gather", [self._book(name, packed), self._whole(name, packed)])
        if len(widths) == 1:
            return self._flat(self._row_values(name, packed, widths[0]))
        codes = self._int32(self._flat(self._codes(name, widths)))
        return self._add("Gather", [self._book(name, packed), codes])

    def _row_values(self, name: str, packed: Packed, width: int) -> str:
        """A row of values for each byte of the one plane."""
        table = self._once(f"rows{width} as int32", lambda: self._int32(self._rows(width)))
        values = self._add("Gather", [self._book(name, packed), table])
        return self._add("Gather", [values, self._int32(f"{name}:codes{width}")])

    def _codes(self, name: str, widths: tuple[int, ...]) -> str:
        """uint8 codes out of several planes, an octet a row."""
        below = sum(widths)
        found = ""
        for width in widths:
            below -= width
            table = self._raised(width, below)
            part = self._add("Gather", [table, self._int32(f"{name}:codes{width}")])
            part = self._add("Reshape", [part, self._shape((-1, OCTET))])
            found = self._add("BitwiseOr", [found, part]) if found else part
        return found

    def _book(self, name: str, packed: Packed) -> str:
        floats = "scale" in packed.parts or packed.parts["book"].dtype == np.float16
        if not floats or packed.parts["book"].dtype == np.float32:
            return f"{name}:book"
        return self._add("Cast", [f"{name}:book"], to=TensorProto.FLOAT)

    def _whole(self, name: str, packed: Packed) -> str:
        (part,) = [p for p in ("nibbles", "codes8", "codes16") if p in packed.parts]
        return self._int32(f"{name}:{part}")

    def _shaped(self, tensor: str, shape: tuple[int, ...], final: str) -> str:
        """Octets in rows, without those past the end, in `shape`."""
        count = int(np.prod(shape, dtype=np.int64))
        if count % OCTET:
            ends = [self._constant(f":{n}", np.array([n], np.int64)) for n in (0, count)]
            tensor = self._add("Slice", [self._flat(tensor), *ends])
        return self._add("Reshape", [tensor, self._shape(shape)], final)

    def _flat(self, tensor: str) -> str:
        return self._add("Reshape", [tensor, self._shape((-1,))])

    # What serves every tensor.

    def _rows(self, width: int) -> str:
        """packing.rows(width), uint8."""

        def make() -> str:
            every = self._constant(":bytes", np.arange(256, dtype=np.uint8)[:, None])
            shifts = np.arange(8 - width, -1, -width, dtype=np.uint8)
            steps = self._constant(f":shifts{width}", shifts)
            shifted = self._add("BitShift", [every, steps], direction="RIGHT")
            top = self._constant(f":top{width}", np.array((1 << width) - 1, np.uint8))
            return self._add("BitwiseAnd", [shifted, top])

        return self._once(f"rows{width}", make)

    def _raised(self, width: int, below: int) -> str:
        """The rows, `below` bits higher."""

        def make() -> str:
            steps = self._constant(f":step{below}", np.array(below, np.uint8))
            return self._add("BitShift", [self._rows(width), steps], direction="LEFT")

        return self._once(f"rows{width} << {below}", make) if below else self._rows(width)

    def _bits(self) -> str:
        return self._once("bits", lambda: self._int32(self._rows(1)))

    def _ones(self) -> str:
        """(256, 1): how many ones a byte has."""
        axis = self._constant(":1", np.array([1], np.int64))
        return self._once("ones", lambda: self._add("ReduceSum", [self._bits(), axis]))

    def _ranks(self) -> str:
        """(256, 8): for each one of a byte its rank from 1 on, for each zero far below 0."""

        def make() -> str:
            ranks = self._add("CumSum", [self._bits(), self._int("1", 1)])
            kept = self._add("Cast", [self._bits()], to=TensorProto.BOOL)
            return self._add("Where", [kept, ranks, self._int("below", _BELOW)])

        return self._once("ranks", make)

    def _int32(self, tensor: str) -> str:
        return self._once(
            f"int32 {tensor}", lambda: self._add("Cast", [tensor], to=TensorProto.INT32)
        )

    def _int(self, name: str, value: int) -> str:
        return self._constant(f":int_{name}", np.array(value, np.int32))

    def _shape(self, shape: tuple[int, ...]) -> str:
        text = "x".join(map(str, shape))
        return self._constant(f":shape_{text}", np.array(shape, np.int64))

    def _constant(self, name: str, values: Array | np.generic) -> str:
        if name not in self.sheet.constants:
            self.sheet.keep(name, np.asarray(values))
        return name

    def _once(self, key: str, make: Callable[[], str]) -> str:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _add(self, operator: str, inputs: list[str], output: str = "", **options: int | str) -> str:
        if not output:
            self._count += 1
            output = f":{self._count}t"
        node = helper.make_node(operator, inputs, [output])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
        self.sheet.nodes.append(node)
        return output


def _widths(packed: Packed) -> tuple[int, ...]:
    """The widths of the bit planes, highest first."""
    return tuple(w for w in plane_widths(7) if f"codes{w}" in packed.parts)


def embedded_bytes(message: NodeProto | TensorProto) -> int:
    """What a node or constant takes in the file: its own bytes, its tag and its length."""
    size = message.ByteSize()
    return size + 1 + max(1, -(-size.bit_length() // 7))
