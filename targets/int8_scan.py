"""What a report says of int8 by layers (int8_sensitivity.py): who hurts, and what mends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.errors import ReportError

if TYPE_CHECKING:
    from compress.stages.int8_sensitivity import Int8Sensitivity


@dataclass(frozen=True)
class Int8Layer:
    """One layer quantized alone, or one operator without weights; fields as in LayerLoss.

    The losses are nats a picture. mend: the way that saved most of those tried, and what the layer
    loses in it; '' where none was tried or none saved anything.
    """

    layer: str
    weights: int
    macs: int
    weight_db: float | None
    output_db: float | None
    net_db: float | None
    weights_kl: float
    output_kl: float
    alone_kl: float
    mend: str = ""
    mended_kl: float | None = None
    tried: int = 0

    def __post_init__(self) -> None:
        for name in ("weights_kl", "output_kl", "alone_kl", "mended_kl"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ReportError(
                    f"{name} of {self.layer!r} is {value}; a number from 0 up is needed"
                )
        if (self.mend == "") != (self.mended_kl is None):
            raise ReportError(f"mend and mended_kl of {self.layer!r} go together; give both")


@dataclass(frozen=True)
class Int8Way:
    """One way taken for the whole net: loss and SQNR, or why it could not be tried."""

    way: str
    int8_kl: float | None
    int8_db: float | None
    reason: str = ""


@dataclass(frozen=True)
class Int8Scan:
    """Every layer, the worst first. quantize: the stages in words; pictures: how many judged."""

    quantize: str
    pictures: int
    int8_kl: float
    int8_db: float | None
    layers: tuple[Int8Layer, ...]
    ways: tuple[Int8Way, ...] = ()


def int8_scan(found: Int8Sensitivity | None) -> Int8Scan | None:
    """The scan as the report keeps it."""
    if found is None:
        return None
    layers: list[Int8Layer] = []
    for row in found.layers:
        best = found.best(row.layer)
        tried = sum(m.layer == row.layer for m in found.mendings)
        layers.append(
            Int8Layer(
                layer=row.layer,
                weights=row.weights,
                macs=row.macs,
                weight_db=row.weight_db,
                output_db=row.output_db,
                net_db=row.net_db,
                weights_kl=row.weights_kl,
                output_kl=row.output_kl,
                alone_kl=row.alone_kl,
                mend="" if best is None else best.way,
                mended_kl=None if best is None else best.after_kl,
                tried=tried,
            )
        )
    ways = tuple(Int8Way(w.way, w.int8_kl, w.int8_db, w.reason) for w in found.ways)
    scan = (found.quantize, found.pictures, found.int8_kl, found.int8_db)
    return Int8Scan(*scan, tuple(layers), ways)
