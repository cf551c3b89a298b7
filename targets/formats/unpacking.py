"""Operators that give a packed tensor back; onnxruntime runs them once, when a session starts.

A byte is looked up, not taken apart: a table has a row of 8, 4 or 2 codes (or already their
values) for each of the 256 bytes, so that a plane is one Gather. The tables are made of 256 bytes
by the graph itself and serve every tensor. Only bytes and int32 are as large as a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from targets.formats.onnx_operators import Operators, embedded_bytes
from targets.formats.packing import Packed, plane_widths

# Before every rank of an element, so that the zeros' own come out below 0.
_BELOW = -(1 << 30)


@dataclass
class Unpacker:
    """Writes what gives tensors back. Where each element has its own index, GatherElements looks
    it up: Gather calls a copy for every element, and takes ten times as long.
    """

    to: Operators

    def write(self, name: str, packed: Packed) -> None:
        """Make the tensor `name`; its parts become the constants `name:part`."""
        parts = packed.parts
        for part, values in parts.items():
            self.to.sheet.keep(f"{name}:{part}", values)
        final = "" if "scale" in parts else name
        if "mask" in parts:
            values = self._scattered(name, packed, final)
        elif "values" in parts:
            values = self.to.add("Cast", [f"{name}:values"], final, to=TensorProto.FLOAT)
        else:
            values = self._dense(name, packed, final)
        if "scale" in parts:
            final = "" if packed.negative_zeros else name
            values = self.to.add("Mul", [values, f"{name}:scale"], final)
        if packed.negative_zeros:
            self.to.plus_zero(values, name)

    def cost(self, name: str, packed: Packed) -> int:
        """Bytes that `write` would add to the file; nothing is written."""
        known = self.to.sheet.constants
        trial = Unpacker(self.to.trial())
        trial.write(name, packed)
        sheet = trial.to.sheet
        new = (tensor for key, tensor in sheet.constants.items() if key not in known)
        return sum(map(embedded_bytes, (*sheet.nodes, *new)))

    def _dense(self, name: str, packed: Packed, final: str) -> str:
        """Every element has its code."""
        widths = _widths(packed)
        if len(widths) == 1:
            values = self.to.flat(self._row_values(name, packed, widths[0]))
            return self._shaped(self.to.cut(values, packed.size), packed.shape, final)
        if widths:
            codes = self.to.int32(self.to.cut(self._codes(name, widths), packed.size))
        else:
            codes = self._whole(name, packed)
        values = self.to.add("GatherElements", [self._book(name, packed), codes])
        return self._shaped(values, packed.shape, final)

    def _scattered(self, name: str, packed: Packed, final: str) -> str:
        """Elements of the mask's ones, in order, and zero elsewhere."""
        few = self._few(name, packed)
        mask = self.to.int32(f"{name}:mask")
        counts = self.to.add("Gather", [self._ones(), mask])
        before = self.to.add("CumSum", [counts, self.to.int(0)], exclusive=1)
        ranks = self.to.add("Add", [self.to.add("Gather", [self._ranks(), mask]), before])
        places = self.to.flat(self.to.add("Max", [ranks, self.to.int(0)]))
        places = self.to.cut(places, packed.size)
        values = self.to.add("GatherElements", [few, places])
        return self._shaped(values, packed.shape, final)

    def _few(self, name: str, packed: Packed) -> str:
        """A zero and the kept elements, flat."""
        if "values" in packed.parts:
            if packed.parts["values"].dtype == np.float32:
                return f"{name}:values"
            return self.to.add("Cast", [f"{name}:values"], to=TensorProto.FLOAT)
        widths = _widths(packed)
        if len(widths) == 1:
            return self.to.flat(self._row_values(name, packed, widths[0]))
        codes = self.to.int32(self._codes(name, widths)) if widths else self._whole(name, packed)
        return self.to.add("GatherElements", [self._book(name, packed), codes])

    def _row_values(self, name: str, packed: Packed, width: int) -> str:
        """A row of values for each byte of the one plane."""
        table = self.to.once(f"rows{width} as int32", lambda: self.to.int32(self.to.rows(width)))
        values = self.to.add("Gather", [self._book(name, packed), table])
        return self.to.add("Gather", [values, self.to.int32(f"{name}:codes{width}")])

    def _codes(self, name: str, widths: tuple[int, ...]) -> str:
        """uint8 codes out of several planes, flat."""
        planes = {width: f"{name}:codes{width}" for width in widths}
        return self.to.joined(planes)

    def _book(self, name: str, packed: Packed) -> str:
        floats = "scale" in packed.parts or packed.parts["book"].dtype == np.float16
        if not floats or packed.parts["book"].dtype == np.float32:
            return f"{name}:book"
        return self.to.add("Cast", [f"{name}:book"], to=TensorProto.FLOAT)

    def _whole(self, name: str, packed: Packed) -> str:
        (part,) = [p for p in ("nibbles", "codes8", "codes16") if p in packed.parts]
        return self.to.int32(f"{name}:{part}")

    def _shaped(self, tensor: str, shape: tuple[int, ...], final: str) -> str:
        return self.to.add("Reshape", [tensor, self.to.shape(shape)], final)

    # What serves every tensor.

    def _bits(self) -> str:
        return self.to.once("bits", lambda: self.to.int32(self.to.rows(1)))

    def _ones(self) -> str:
        """(256, 1): how many ones a byte has."""
        axis = self.to.shape((1,))
        return self.to.once("ones", lambda: self.to.add("ReduceSum", [self._bits(), axis]))

    def _ranks(self) -> str:
        """(256, 8): for each one of a byte its rank from 1 on, for each zero far below 0."""

        def make() -> str:
            ranks = self.to.add("CumSum", [self._bits(), self.to.int(1)])
            kept = self.to.add("Cast", [self._bits()], to=TensorProto.BOOL)
            return self.to.add("Where", [kept, ranks, self.to.int(_BELOW)])

        return self.to.once("ranks", make)


def _widths(packed: Packed) -> tuple[int, ...]:
    """The widths of the bit planes, highest first."""
    return tuple(w for w in plane_widths(7) if f"codes{w}" in packed.parts)
