"""What is tried, as data: each rung a net made from an earlier one, and the files it goes into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.network import LayerInfo

FULL_BITS = 8
"""What the first layer and depthwise layers keep: few weights, each read by every pixel."""


@dataclass(frozen=True)
class Rung:
    """`start`: the rung it is made from. `quantize`: int8; `bits`: weights share 2**bits values.

    `method` is what the report calls it. A rung with `bits` is not tried where the one with more
    bits before it, from the same start, was beyond hope.
    """

    label: str
    start: str
    formats: tuple[str, ...]
    method: str
    quantize: bool = False
    bits: int | None = None


FP32 = Rung("fp32", "", ("onnx", "tflite"), "none")
INT8 = Rung("int8", "fp32", ("onnx", "tflite"), "int8", quantize=True)


def _shared(bits: int) -> Rung:
    return Rung(f"shared{bits}", "fp32", ("onnx-packed", "dc"), f"{bits}-bit shared", bits=bits)


def _both(bits: int) -> Rung:
    formats = ("onnx-packed", "tflite", "dc")
    return Rung(f"int8-shared{bits}", "int8", formats, f"int8, {bits}-bit shared", bits=bits)


LADDER = (
    FP32,
    INT8,
    *(_shared(bits) for bits in (8, 7, 6, 5, 4)),
    *(_both(bits) for bits in (6, 5, 4)),
)


def bits_by_layer(layers: Sequence[LayerInfo], bits: int) -> tuple[tuple[str, int], ...]:
    """ShareWeights' pairs: `bits` for all but the first layer and depthwise ones."""
    few = [layers[0].name, *(layer.name for layer in layers[1:] if layer.role == "depthwise")]
    return (*((name, max(bits, FULL_BITS)) for name in few), ("*", bits))


def is_hopeless(loss: float, max_drop: float) -> bool:
    """True where fewer bits, which lose more, cannot come back within `max_drop`, in [0, 1].

    Twice the limit and two points: a few hundred pictures do not tell less apart.
    """
    return loss > max(2 * max_drop, 0.02)
