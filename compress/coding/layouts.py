"""In what order a tensor's codes are coded, and in which context each of them is.

A layout goes through the codes in steps. A context depends on codes of earlier steps alone, so
all codes of a step are decoded at once. Contexts are numbered shift * spreads + spread: the shift
says where the code is expected (below, about or above zero), the spread how far from zero.
v is the signed rank of a code (model.signed), m its magnitude; // rounds down.

    Flat    one step, one context: order zero
    Blocks  the tensor as a matrix, first axis against all others, in 16 x 16 blocks, row by row
            of blocks. The spread of a code follows from the mean magnitudes of its row and of its
            column in the blocks before:  with s, c the sum and number of m so far in the row (or
            in the column) and g the mean magnitude in 256ths (stored),
                e = (256 * s + 16 * g) // (c + 16),  U = e(row) * e(column) // max(g, 1)
    Planes  convolution kernels, K = product of the axes after the second: first the first place
            of all kernels, then the second place ... The earlier places near it in the same
            kernel predict each code: with coefficients a, b (16ths) and a bias, all by place,
                P = sum(a * v),  U = max(1, bias + sum(b * m)),  Z = 16 * |P| // U
            The shift is the number of shift limits <= Z, towards the sign of P, around the middle.

The spread is the number of spread limits <= U. Near are the 8 earlier places of the least squared
distance (rows: all axes but the last), of equals the earlier.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.coding.model import signed

Codes: TypeAlias = NDArray[np.uint16]
Limits: TypeAlias = tuple[int, ...]
Where: TypeAlias = tuple[slice, slice]

BLOCKS = 16
MAX_PLACES = 64
_NEAR = 8


class Layout(Protocol):
    """An order and contexts for codes of one shape."""

    @property
    def grid(self) -> tuple[int, int]:
        """(shifts, spreads)."""
        ...

    def steps(self, codes: Codes) -> Iterator[tuple[Where, NDArray[np.uint16]]]:
        """(part of `codes`, the context of each code in it, of the part's shape) for each step.

        The codes of a part must be in place before the next step is asked for. codes: two axes,
        as `seen` gives them.
        """
        ...

    def seen(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The two axes that a tensor of this shape is seen in."""
        ...


@dataclass(frozen=True)
class Flat:
    """Order zero."""

    @property
    def grid(self) -> tuple[int, int]:
        return 1, 1

    def seen(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return 1, math.prod(shape)

    def steps(self, codes: Codes) -> Iterator[tuple[Where, NDArray[np.uint16]]]:
        yield (slice(None), slice(None)), np.broadcast_to(np.uint16(0), codes.shape)


@dataclass(frozen=True)
class Blocks:
    """Spreads by rows and columns. alphabet and negatives: as in model.signed."""

    alphabet: int
    negatives: int
    mean: int  # of the magnitudes, in 256ths
    limits: Limits

    @property
    def grid(self) -> tuple[int, int]:
        return 1, len(self.limits) + 1

    def seen(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[0], math.prod(shape[1:])

    def steps(self, codes: Codes) -> Iterator[tuple[Where, NDArray[np.uint16]]]:
        for where, spreads in self.measures(codes):
            yield where, classes(spreads, self.limits).astype(np.uint16)

    def measures(self, codes: Codes) -> Iterator[tuple[Where, NDArray[np.int64]]]:
        """(part, U) for each step."""
        magnitudes = np.abs(signed(np.arange(self.alphabet), self.negatives))
        columns = np.zeros(codes.shape[1], np.int64)
        for top, bottom in _edges(codes.shape[0]):
            sums = np.zeros(bottom - top, np.int64)
            for left, right in _edges(codes.shape[1]):
                row = (256 * sums + 16 * self.mean) // (left + 16)
                column = (256 * columns[left:right] + 16 * self.mean) // (top + 16)
                where = slice(top, bottom), slice(left, right)
                yield where, row[:, None] * column // max(self.mean, 1)
                seen = magnitudes[codes[where]]
                sums += seen.sum(axis=1)
                columns[left:right] += seen.sum(axis=0)


@dataclass(frozen=True)
class Place:
    """How the codes at one place of the kernels are expected, from those at `near` places."""

    near: tuple[int, ...]
    shifts: tuple[int, ...]  # a
    spreads: tuple[int, ...]  # b
    bias: int


@dataclass(frozen=True)
class Planes:
    """Shifts and spreads by the neighbours in the kernel."""

    alphabet: int
    negatives: int
    places: tuple[Place, ...]
    shift_limits: Limits
    spread_limits: Limits

    @property
    def grid(self) -> tuple[int, int]:
        return 2 * len(self.shift_limits) + 1, len(self.spread_limits) + 1

    def seen(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return math.prod(shape[:2]), len(self.places)

    def steps(self, codes: Codes) -> Iterator[tuple[Where, NDArray[np.uint16]]]:
        middle, spreads = len(self.shift_limits), len(self.spread_limits) + 1
        for where, expected, spread in self.measures(codes):
            towards = classes(16 * np.abs(expected) // spread, self.shift_limits)
            shift = middle + np.sign(expected) * towards
            contexts = shift * spreads + classes(spread, self.spread_limits)
            yield where, contexts[:, None].astype(np.uint16)

    def measures(
        self, codes: Codes
    ) -> Iterator[tuple[Where, NDArray[np.int64], NDArray[np.int64]]]:
        """(part, P, U) for each step, both (kernels,)."""
        ranks = signed(np.arange(self.alphabet), self.negatives).astype(np.int32)
        values = np.zeros((len(self.places), len(codes)), np.int32)
        for number, place in enumerate(self.places):
            expected = np.zeros(len(codes), np.int64)
            spread = np.full(len(codes), place.bias, np.int64)
            for near, a, b in zip(place.near, place.shifts, place.spreads, strict=True):
                if a:
                    expected += a * values[near].astype(np.int64)
                if b:
                    spread += b * np.abs(values[near]).astype(np.int64)
            where = slice(None), slice(number, number + 1)
            yield where, expected, np.maximum(spread, 1)
            values[number] = ranks[codes[where][:, 0]]


def classes(measures: NDArray[np.int64], limits: Limits) -> NDArray[np.int64]:
    """How many of the limits are <= each measure."""
    found = np.zeros(measures.shape, np.int64)
    for limit in limits:
        found += measures >= limit
    return found


def near_places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """For each place of a kernel, the earlier places that predict it, the nearest first.

    shape: of the tensor, more than two axes.
    """
    width = shape[-1]
    places = [divmod(place, width) for place in range(math.prod(shape[2:]))]
    near: list[tuple[int, ...]] = []
    for number, (row, column) in enumerate(places):
        distances = [((r - row) ** 2 + (c - column) ** 2, k) for k, (r, c) in enumerate(places)]
        near.append(tuple(k for _, k in sorted(distances[:number])[:_NEAR]))
    return near


def _edges(size: int) -> list[tuple[int, int]]:
    edges = [size * part // BLOCKS for part in range(BLOCKS + 1)]
    return [(low, high) for low, high in itertools.pairwise(edges) if low < high]
