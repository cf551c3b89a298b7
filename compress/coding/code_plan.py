"""How a tensor's codes are to be coded: their order of numbers, prior, layout and lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.blockwise import look_up
from compress.coding.ans import SLOT_BITS, SLOTS
from compress.coding.code_header import STRENGTHS, Header, renumbering, write_header
from compress.coding.huffman import symbol_counts
from compress.coding.layout_fit import GRIDS, blocks_fit, fit_blocks, fit_planes, planes_fit
from compress.coding.layouts import Flat, Layout
from compress.coding.model import best_prior, updates
from compress.errors import RangeError

MAX_ALPHABET = 1 << 12
# A lane costs three bytes: one for about 2000 bytes, and at least one for 2**14 codes.
_LANE_BITS = 8 * 2000
MOST_ROWS = 1 << 14
# Above this, layouts are tried on a part of the rows.
_TRIED = 1 << 18
COST_UNIT = 1 << 12
_USUAL_STRENGTH = 1  # while layouts are compared
# What a frequency costs, in COST_UNIT-ths of a bit: integers add up to the same in any order.
COSTS = np.rint(COST_UNIT * (SLOT_BITS - np.log2(np.arange(1, SLOTS + 1)))).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Plan:
    """codes: renumbered, of the tensor's shape. bits: what they take, about."""

    header: Header
    codes: NDArray[np.uint16]
    bits: float


@dataclass(frozen=True)
class Choice:
    """A kind of layout, of Planes which spreads and limits."""

    kind: Literal["flat", "blocks", "planes"]
    fitted_spreads: bool = False
    grid: tuple[int, int] = (0, 1)

    def fitted(self, codes: NDArray[np.uint16], header: Header) -> Layout:
        """The layout for renumbered codes, of the tensor's shape."""
        size, negatives = header.used.size, header.negatives
        if self.kind == "blocks":
            return fit_blocks(codes, size, negatives)
        if self.kind == "planes":
            return fit_planes(codes, size, negatives, self.fitted_spreads, self.grid)
        return Flat()


def plan(codes: NDArray[np.integer[Any]], alphabet: int, codebook: NDArray[Any] | None) -> Plan:
    """The plan that takes the fewest bits of those tried. At least one code.

    Raises RangeError for a code outside the alphabet, or a codebook of another size.
    """
    counts = _counts(codes, alphabet)
    occurring = counts > 0
    if np.count_nonzero(occurring) == 1:
        header = Header(renumbering(occurring, False, 0), False, 0, 0, 0, 0, Flat(), 1)
        return Plan(header, np.zeros(codes.shape, np.uint16), 0.0)
    occurring[0] = True
    wrapped, negatives = _signs(counts, occurring, codebook)
    used = renumbering(occurring, wrapped, negatives)
    numbers = np.zeros(alphabet, np.uint16)
    numbers[used] = np.arange(used.size, dtype=np.uint16)
    renumbered = look_up(numbers, codes)
    _, zeros, decay = best_prior(counts[used], negatives)
    header = Header(used, wrapped, negatives, zeros, decay, _USUAL_STRENGTH, Flat(), 1)
    header, bits = _best_layout(header, renumbered, alphabet)
    lanes = max(1, round(bits / _LANE_BITS), -(-codes.size // MOST_ROWS))
    return Plan(header._replace(lanes=lanes), renumbered, bits)


def in_order(
    layout: Layout, codes: NDArray[np.uint16]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """(codes, contexts) one after the other in the layout's steps, both (count,)."""
    if isinstance(layout, Flat):
        flat = codes.reshape(-1)
        return flat, np.broadcast_to(np.uint16(0), flat.shape)
    seen = codes.reshape(layout.seen(codes.shape))
    found = [(seen[where].reshape(-1), context) for where, context in layout.steps(seen)]
    contexts = np.concatenate([context.reshape(-1) for _, context in found])
    return np.concatenate([part for part, _ in found]), contexts


def check_alphabet(alphabet: int) -> None:
    if not 1 <= alphabet <= MAX_ALPHABET:
        raise RangeError(f"alphabet of {alphabet} codes: allowed are 1 to {MAX_ALPHABET}")


def _counts(codes: NDArray[np.integer[Any]], alphabet: int) -> NDArray[np.int64]:
    check_alphabet(alphabet)
    return symbol_counts(codes.reshape(-1), alphabet)


def _signs(
    counts: NDArray[np.int64], occurring: NDArray[np.bool_], codebook: NDArray[Any] | None
) -> tuple[bool, int]:
    """(wrapped, codes in use below zero), by the codebook or as the counts look more likely."""
    codes = np.flatnonzero(occurring)[1:]
    if codebook is not None:
        if codebook.shape != counts.shape:
            raise RangeError(f"codebook of shape {codebook.shape} for {counts.size} codes")
        values = codebook[codes]
        negatives = int(np.count_nonzero(values < 0))
        for wrapped in (False, True):
            if np.all(np.diff(np.roll(values, negatives * wrapped).astype(np.float64)) > 0):
                return wrapped, negatives
    below = np.cumsum(counts[codes])
    halves = int(np.count_nonzero(2 * below <= below[-1]))
    upper = int(np.count_nonzero(2 * codes >= counts.size))
    ways = [(False, halves), (True, upper)]
    costs = [
        best_prior(counts[renumbering(occurring, wrapped, negatives)], negatives)[0]
        for wrapped, negatives in ways
    ]
    return ways[costs.index(min(costs))]


def _best_layout(header: Header, codes: NDArray[np.uint16], alphabet: int) -> tuple[Header, float]:
    """(header with the layout and strength of the fewest bits, those bits).

    codes: renumbered, of the tensor's shape. A large tensor's layout is chosen on every so many'th
    of its rows, then fitted to all.
    """
    step = -(-codes.size // _TRIED) if codes.ndim > 1 else 1
    part = codes[::step]
    best = _search(header, part, alphabet)
    header = header._replace(layout=best.fitted(part, header))
    bits, strength = min(
        (_bits(header._replace(strength=strength), part, alphabet), strength)
        for strength in range(STRENGTHS)
    )
    header = header._replace(strength=strength)
    if step > 1:
        header = header._replace(layout=best.fitted(codes, header))
    return header, bits * codes.size / part.size


def _search(header: Header, codes: NDArray[np.uint16], alphabet: int) -> Choice:
    """The choice of the fewest bits."""
    costs: dict[Choice, float] = {}

    def cost(choice: Choice) -> float:
        whole = header._replace(layout=choice.fitted(codes, header))
        costs[choice] = _bits(whole, codes, alphabet)
        return costs[choice]

    cost(Choice("flat"))
    if blocks_fit(codes):
        cost(Choice("blocks"))
    if planes_fit(codes):
        fitted = min((True, False), key=lambda each: cost(Choice("planes", each, GRIDS[0])))
        for grid in GRIDS[1:]:
            cost(Choice("planes", fitted, grid))
    return min(costs, key=lambda choice: costs[choice])


def _bits(header: Header, codes: NDArray[np.uint16], alphabet: int) -> float:
    """Bits of the header and of all codes, but for the lanes."""
    ordered, contexts = in_order(header.layout, codes)
    model = header.model()
    total = 0
    for low, high in updates(ordered.size):
        tables = model.tables()
        before = model.counts.copy()
        model.add(contexts[low:high], ordered[low:high])
        seen = (model.counts - before).reshape(tables.frequencies.shape)
        total += int((COSTS[tables.frequencies - 1] * seen).sum())
    return 8 * len(write_header(header, alphabet)) + total / COST_UNIT
