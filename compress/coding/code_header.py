"""The head of a stream of codes (codes.py): what the decoder has to know before the first code."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.coding.bits import BitReader, BitWriter
from compress.coding.layouts import (
    MAX_PLACES,
    Blocks,
    Flat,
    Layout,
    Limits,
    Place,
    Planes,
    near_places,
)
from compress.coding.model import Model, prior
from compress.errors import ContainerError

STRENGTHS = 4
_FLAT, _BLOCKS, _PLANES = range(3)
_MOST_CONTEXTS = 1 << 9  # of a side of their grid
_MOST_COUNTS = 1 << 19  # contexts times codes: bounds the memory of a hostile stream
_LEAST_STRENGTH = 1 << 8
_MOST = 1 << 41  # of a limit
_MOST_MEAN = 1 << 20
# 8 products of a coefficient and a rank below 2**12 stay below 2**40.
_MOST_COEFFICIENT = 1 << 24


class Header(NamedTuple):
    """used: the alphabet's code of each number that is coded, number 0 first."""

    used: NDArray[np.uint16]
    wrapped: bool
    negatives: int
    zeros: int
    decay: int
    strength: int  # 0 to 3
    layout: Layout
    lanes: int

    def model(self) -> Model:
        """What is believed of the codes before the first."""
        start = prior(self.used.size, self.negatives, self.zeros, self.decay)
        return Model(self.layout.grid, start, _LEAST_STRENGTH << 2 * self.strength)


def renumbering(occurring: NDArray[np.bool_], wrapped: bool, negatives: int) -> NDArray[np.uint16]:
    """Header.used: code 0 and those that occur, those below zero before those above."""
    codes = np.flatnonzero(occurring).astype(np.uint16)
    if codes.size == 1:
        return codes
    rest = codes[codes > 0]
    if wrapped:
        rest = np.roll(rest, negatives)
    return np.concatenate([np.zeros(1, np.uint16), rest])


def write_header(header: Header, alphabet: int) -> bytes:
    """Its bytes, padded to a whole one."""
    writer = BitWriter()
    _write_used(writer, header.used, alphabet)
    if header.used.size == 1:
        return writer.to_bytes()
    writer.write(header.wrapped, 1)
    writer.write_gamma(1 + header.negatives)
    writer.write(header.zeros, 4)
    writer.write(header.decay, 4)
    writer.write(header.strength, 2)
    layout = header.layout
    if isinstance(layout, Blocks):
        writer.write(_BLOCKS, 2)
        writer.write_gamma(1 + layout.mean)
        _write_limits(writer, layout.limits)
    elif isinstance(layout, Planes):
        writer.write(_PLANES, 2)
        for place in layout.places:
            for value in (*place.shifts, *place.spreads, place.bias):
                writer.write_gamma(1 + 2 * value if value >= 0 else -2 * value)
        _write_limits(writer, layout.shift_limits)
        _write_limits(writer, layout.spread_limits)
    else:
        writer.write(_FLAT, 2)
    writer.write_gamma(header.lanes)
    return writer.to_bytes()


def read_header(
    data: bytes | memoryview, shape: tuple[int, ...], alphabet: int
) -> tuple[Header, int]:
    """(header, offset of the body). Raises ContainerError for what write_header does not write."""
    reader = BitReader(data)
    occurring = _read_used(reader, alphabet)
    if np.count_nonzero(occurring) == 1:
        used = renumbering(occurring, False, 0)
        return Header(used, False, 0, 0, 0, 0, Flat(), 1), reader.end()
    wrapped = bool(reader.read(1))
    negatives = reader.read_gamma(int(np.count_nonzero(occurring[1:])) + 1) - 1
    used = renumbering(occurring, wrapped, negatives)
    zeros, decay, strength = reader.read(4), reader.read(4), reader.read(2)
    layout = _read_layout(reader, shape, used.size, negatives)
    lanes = reader.read_gamma(math.prod(shape))
    return Header(used, wrapped, negatives, zeros, decay, strength, layout, lanes), reader.end()


def _write_used(writer: BitWriter, used: NDArray[np.uint16], alphabet: int) -> None:
    occurring = np.zeros(alphabet, np.bool_)
    occurring[used] = True
    writer.write(int(occurring.all()), 1)
    if occurring.all():
        return
    borders = np.flatnonzero(np.diff(occurring.astype(np.int8), prepend=0, append=-1))
    runs = np.diff(borders, prepend=0).tolist()
    writer.write_gamma(1 + runs[0])
    for run in runs[1:]:
        writer.write_gamma(run)


def _read_used(reader: BitReader, alphabet: int) -> NDArray[np.bool_]:
    if reader.read(1):
        return np.ones(alphabet, np.bool_)
    occurring = np.zeros(alphabet, np.bool_)
    code = reader.read_gamma(alphabet) - 1
    value = True
    while code < alphabet:
        run = reader.read_gamma(alphabet - code)
        occurring[code : code + run] = value
        code, value = code + run, not value
    return occurring


def _read_layout(reader: BitReader, shape: tuple[int, ...], codes: int, negatives: int) -> Layout:
    kind = reader.read(2)
    layout: Layout | None = None
    if kind == _FLAT:
        layout = Flat()
    elif kind == _BLOCKS and shape:
        mean = reader.read_gamma(_MOST_MEAN + 1) - 1
        layout = Blocks(codes, negatives, mean, _read_limits(reader))
    elif kind == _PLANES and len(shape) > 2 and math.prod(shape[2:]) <= MAX_PLACES:
        places = tuple(_read_place(reader, near) for near in near_places(shape))
        shifts, spreads = _read_limits(reader), _read_limits(reader)
        layout = Planes(codes, negatives, places, shifts, spreads)
    if layout is None or math.prod(layout.grid) * codes > _MOST_COUNTS:
        raise ContainerError(
            f"coded stream is damaged: layout {kind} of {codes} codes for a tensor of shape "
            f"{shape}; get the file again"
        )
    return layout


def _read_place(reader: BitReader, near: tuple[int, ...]) -> Place:
    values: list[int] = []
    for _ in range(2 * len(near) + 1):
        value = reader.read_gamma(2 * _MOST_COEFFICIENT)
        values.append(value // 2 if value & 1 else -(value // 2))
    return Place(near, tuple(values[: len(near)]), tuple(values[len(near) : -1]), values[-1])


def _write_limits(writer: BitWriter, limits: Limits) -> None:
    writer.write_gamma(1 + len(limits))
    for limit, before in zip(limits, (0, *limits), strict=False):
        writer.write_gamma(limit - before)


def _read_limits(reader: BitReader) -> Limits:
    limits: list[int] = []
    for _ in range(reader.read_gamma(_MOST_CONTEXTS) - 1):
        limits.append(reader.read_gamma(_MOST) + (limits[-1] if limits else 0))
    return tuple(limits)
