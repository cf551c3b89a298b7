"""An audit of a file in its runtime, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Arithmetic = Literal["int8", "float", "unknown"]


@dataclass(frozen=True)
class Layer:
    """One operator with weights. name: of its weights. operator: as it stands in the file.

    kernel: what the runtime made of it. asked: the arithmetic that the file is written for; ran:
    what the kernel computes in, 'unknown' where the layer was not found again. macs: of one
    picture, None where the file does not say the shapes.
    """

    name: str
    operator: str
    kernel: str
    asked: Arithmetic
    ran: Arithmetic
    macs: int | None


@dataclass(frozen=True)
class Converted:
    """Operators that only convert or move values: how many the file has, how many are run."""

    written: int
    ran: int


@dataclass(frozen=True)
class Audit:
    """A file in its runtime.

    operators: what is run, by kind, most frequent first; in_int8: those of them that work on 8-bit
    integers, without the conversions to and from them. taken: how many of them the provider or
    the delegate runs, in so many `parts`; left: the others, by kind. expanded: weights
    and biases that are dequantized anew at every run.
    """

    runtime: str
    provider: str
    layers: tuple[Layer, ...]
    operators: Mapping[str, int]
    in_int8: Mapping[str, int]
    taken: int
    parts: int
    quantize: Converted
    dequantize: Converted
    transpose: Converted
    left: Mapping[str, int] = field(default_factory=dict[str, int])
    expanded: tuple[str, ...] = ()

    @property
    def macs(self) -> int | None:
        """Of all layers; None where one is not known."""
        known = [layer.macs for layer in self.layers if layer.macs is not None]
        return sum(known) if len(known) == len(self.layers) else None

    @property
    def int8_share(self) -> float | None:
        """The share of the MACs in int8, in [0, 1]; None where not all are known."""
        macs = self.macs
        if not macs:
            return None
        return sum(layer.macs or 0 for layer in self.layers if layer.ran == "int8") / macs

    @property
    def fell_back(self) -> tuple[Layer, ...]:
        """Layers that the file has in int8 and that do not run in it."""
        return tuple(layer for layer in self.layers if layer.asked == "int8" != layer.ran)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        from dataclasses import asdict

        shares = {"macs": self.macs, "int8_share": self.int8_share}
        return {**asdict(self), **shares, "fell_back": [layer.name for layer in self.fell_back]}
