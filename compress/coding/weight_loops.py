"""A tensor from its bytes to its values where they are wanted, without an array in between.

Written for numba to compile (compiled.py), as loops.py. Code tables (code_table.py), gaps, codes
and values of a block are read while they are in the nearest cache. All is checked that the
readers of these parts check, but what is wrong is only said to be wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.coding.loops import swapped
from compress.coding.plane_loops import plane_block

_LONGEST = 15  # bits of a word
_FULL = 1 << _LONGEST


def weights_decode(
    windows: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    gap_width: int,
    values: NDArray[np.uint32],
    into: NDArray[np.uint32],
    symbols: NDArray[np.uint8],
    queue: NDArray[np.uint32],
) -> bool:
    """Put a tensor's values where they belong; False for bytes that are not sure to be right.

    bounds: bits from and to which the gaps' stream and the codes' stream go; entries; size; first
    byte of the tensor in `into`. gap_width: 0 to 8, -1 for a code for each element. values: the
    bits of each code's value. into: the four bytes from each byte on, zero before. symbols: work
    space, two rows.
    """
    entries, size, first = bounds[4], bounds[5], np.uint64(bounds[6])
    gap_steps, code_steps = np.empty((2, _LONGEST), np.int64), np.empty((2, _LONGEST), np.int64)
    gap_table = np.empty(_LONGEST * 256, np.uint8)
    code_table = np.empty(_LONGEST * 256, np.uint8)
    gap_at, gap_end, gap_count = 0, bounds[1], 0
    if gap_width >= 0:
        gap_at, gap_count = code_from(
            windows, bounds[0], gap_end, 1 << gap_width, gap_steps, gap_table
        )
    code_at, code_count = code_from(
        windows, bounds[2], bounds[3], values.size, code_steps, code_table
    )
    if gap_at < 0 or code_at < 0:
        return False
    gap_steps, code_steps = gap_steps[:, :gap_count], code_steps[:, :code_count]
    filler = np.uint64((1 << max(gap_width, 0)) - 1)
    four, one = np.uint64(4), np.uint64(1)
    place, wrong = np.uint64(0), False  # the place after the last entry
    for low in range(0, entries, queue.size):
        count = min(queue.size, entries - low)
        gaps, codes = symbols[0, :count], symbols[1, :count]
        code_at = plane_block(windows, code_at, bounds[3], code_steps, code_table, codes, queue)
        if code_at < 0:
            return False
        if gap_width < 0:
            for index in range(count):
                into[first + four * place] = values[codes[index]]
                place += one
            continue
        gap_at = plane_block(windows, gap_at, gap_end, gap_steps, gap_table, gaps, queue)
        if gap_at < 0:
            return False
        for index in range(count):
            gap = np.uint64(gaps[index])
            place += gap
            if place >= np.uint64(size):
                return False
            into[first + four * place] = values[codes[index]]
            wrong |= (codes[index] == 0) & (gap != filler)
            place += one
        wrong |= (low + count == entries) & (codes[count - 1] == 0)
    if gap_width >= 0 and not ends(windows, gap_at, gap_end):
        return False
    return not wrong and ends(windows, code_at, bounds[3])


def ends(windows: NDArray[np.uint64], at: int, end: int) -> bool:
    """Whether all that is left is less than a byte of zeros."""
    spare = end - at
    if spare < 0 or spare > 7:
        return False
    return spare == 0 or bits_at(windows, at) >> np.uint64(64 - spare) == np.uint64(0)


def bits_at(windows: NDArray[np.uint64], at: int) -> np.uint64:
    """57 bits or more from the bit `at` on, the first on top."""
    return swapped(windows[at >> 3]) << np.uint64(at & 7)


def code_from(
    windows: NDArray[np.uint64],
    at: int,
    end: int,
    alphabet: int,
    steps: NDArray[np.int64],
    table: NDArray[np.uint8],
) -> tuple[int, int]:
    """(bit after the code's table, how many steps), from the table at a bit (code_table.py).

    `steps` and `table` become what planes_decode wants. (-1, 0) where the table is damaged, or
    has one symbol alone.
    """
    lengths = np.zeros(256, np.uint8)
    at = lengths_from(windows, at, end, alphabet, lengths)
    if at < 0:
        return -1, 0
    counts = np.zeros(_LONGEST + 1, np.int64)
    for symbol in range(alphabet):
        counts[lengths[symbol]] += 1
    number = before = first = 0
    begun = 1
    for width in range(1, _LONGEST + 1):
        if counts[width] == 0:
            continue
        steps[0, number], steps[1, number] = width - before, counts[width]
        place = first
        for symbol in range(alphabet):
            if lengths[symbol] == width:
                table[place] = symbol
                place += 1
        begun <<= width - before
        first += begun
        table[place:first] = 0
        begun -= counts[width]
        before, number = width, number + 1
    return at, number


def lengths_from(
    windows: NDArray[np.uint64], at: int, end: int, alphabet: int, lengths: NDArray[np.uint8]
) -> int:
    """Fill `lengths`, zero before, from a table at a bit; the bit after it, -1 for damage."""
    length, top = np.int64(1), alphabet - 1
    while top > 1:
        length, top = length + 1, top >> 1
    length = min(length, _LONGEST)
    symbol, room = np.int64(0), np.int64(_FULL)
    if at >= end or bits_at(windows, at) >> np.uint64(63):  # one symbol alone
        return -1
    at += 1
    while room > 0:
        if at >= end:
            return -1
        top_bits = bits_at(windows, at) >> np.uint64(60)
        if top_bits >> np.uint64(3) == 0:  # as long as the one before
            at += 1
        elif top_bits >> np.uint64(2) & np.uint64(1):  # symbols without a word
            at, run = gamma_from(windows, at + 2, end, alphabet)
            if at < 0:
                return -1
            symbol += run
            continue
        else:
            at, difference = gamma_from(windows, at + 3, end, _LONGEST)
            length += -difference if top_bits >> np.uint64(1) & np.uint64(1) else difference
            if at < 0 or length < 1 or length > _LONGEST:
                return -1
        if symbol >= alphabet:
            return -1
        lengths[symbol] = length
        symbol += 1
        room -= _FULL >> length
    if room < 0 or at > end:
        return -1
    behind = (at + 7) & ~7
    return behind if ends(windows, at, behind) else -1


def gamma_from(windows: NDArray[np.uint64], at: int, end: int, limit: int) -> tuple[int, np.int64]:
    """(bit after it, an integer of 1 to `limit` in Elias's gamma code); (-1, 0) for damage."""
    zeros = 0
    while at < end and not bits_at(windows, at) >> np.uint64(63):
        at, zeros = at + 1, zeros + 1
        if zeros > 8:
            return -1, np.int64(0)
    if at + zeros + 1 > end:
        return -1, np.int64(0)
    value = np.int64(bits_at(windows, at) >> np.uint64(63 - zeros))
    return (at + zeros + 1, value) if value <= limit else (-1, np.int64(0))
