"""The inner loops of the coders, one symbol after the other, written for numba to compile.

compiled.py compiles them; as plain Python they do the same, a thousand times slower. Arrays are
only read and written inside their bounds for any bytes that a file may hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ans_encode(
    starts: NDArray[np.uint16],
    frequencies: NDArray[np.uint16],
    states: NDArray[np.uint64],
    words: NDArray[np.uint16],
) -> int:
    """rANS from the last symbol to the first; the place in `words` where they begin."""
    lanes = states.size
    place = words.size
    lane = (starts.size - 1) % lanes
    for index in range(starts.size - 1, -1, -1):
        frequency = np.uint32(frequencies[index])
        state = states[lane]
        if state >= np.uint64(frequency) << np.uint64(17):
            place -= 1
            words[place] = np.uint16(state & np.uint64(0xFFFF))
            state >>= np.uint64(16)
        quotient = np.uint32(state) // frequency
        rest = np.uint32(state) - quotient * frequency
        states[lane] = np.uint64(
            (np.uint64(quotient) << np.uint64(15)) + np.uint64(rest) + np.uint64(starts[index])
        )
        lane = lane - 1 if lane else lanes - 1
    return place


def ans_decode(
    words: NDArray[np.uint16],
    states: NDArray[np.uint64],
    at: NDArray[np.int64],
    contexts: NDArray[np.uint16],
    table: NDArray[np.uint16],
    packed: NDArray[np.uint32],
    symbols: NDArray[Any],
    counts: NDArray[np.int64],
) -> bool:
    """rANS from the first symbol to the last; False where the words end too early.

    at: [place in words, lane], moved on. table: for each context the symbols of the first slots
    of equal buckets, at least 2. packed: (contexts, alphabet), frequency | first slot << 16.
    counts: the same shape, counted on.
    """
    place, lane = at[0], at[1]
    lanes = states.size
    buckets = table.size // packed.shape[0]
    shift = 0
    while buckets << shift < 1 << 15:
        shift += 1
    for index in range(symbols.size):
        state = states[lane]
        slot = np.int64(state & np.uint64(0x7FFF))
        context = np.int64(contexts[index]) if contexts.size else 0
        symbol = np.int64(table[context * buckets + (slot >> shift)])
        entry = np.int64(packed[context, symbol])
        frequency, start = entry & 0xFFFF, entry >> 16
        while slot >= start + frequency:
            symbol += 1
            entry = np.int64(packed[context, symbol])
            frequency, start = entry & 0xFFFF, entry >> 16
        value = frequency * np.int64(state >> np.uint64(15)) + slot - start
        if value < 1 << 16:
            if place >= words.size:
                return False
            value = value << 16 | np.int64(words[place])
            place += 1
        states[lane] = np.uint64(value)
        symbols[index] = symbol
        counts[context, symbol] += 1
        lane += 1
        if lane == lanes:
            lane = 0
    at[0], at[1] = place, lane
    return True


def huffman_encode(
    symbols: NDArray[Any],
    codes: NDArray[np.uint32],
    lengths: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Words of lane after lane into `out`, which has 8 bytes to spare; the bits of each lane."""
    lanes = sizes.size
    window, filled, place = np.uint64(0), np.int64(0), 0
    for lane in range(lanes):
        bits = np.int64(0)
        for index in range(lane, symbols.size, lanes):
            symbol = symbols[index]
            width = np.int64(lengths[symbol])
            window = window << np.uint64(width) | np.uint64(codes[symbol])
            filled += width
            bits += width
            if filled >= 32:
                filled -= 32
                word = window >> np.uint64(filled)
                out[place] = np.uint8(word >> np.uint64(24) & np.uint64(255))
                out[place + 1] = np.uint8(word >> np.uint64(16) & np.uint64(255))
                out[place + 2] = np.uint8(word >> np.uint64(8) & np.uint64(255))
                out[place + 3] = np.uint8(word & np.uint64(255))
                place += 4
        sizes[lane] = bits
    while filled > 0:
        shift = filled - 8
        if shift >= 0:
            out[place] = np.uint8(window >> np.uint64(shift) & np.uint64(255))
        else:
            out[place] = np.uint8(window << np.uint64(-shift) & np.uint64(255))
        place += 1
        filled -= 8


def huffman_decode(
    windows: NDArray[np.uint64],
    positions: NDArray[np.uint64],
    table: NDArray[np.uint32],
    short: NDArray[np.uint32],
    longest: int,
    symbols: NDArray[Any],
) -> None:
    """All lanes, four at a time; their positions move from first to last bit.

    windows: the 64 bits from each byte on, as a little-endian number. table: by the next `longest`
    bits, symbol | width << 16. short: by fewer bits, 0 where a word is longer; so small that it
    stays in the nearest cache.
    """
    lanes = positions.size
    reads = 57 // longest
    shift = np.uint64(64 - longest)
    width = 0
    while 1 << width < short.size:
        width += 1
    glance = np.uint64(64 - width)
    three, seven, sixteen = np.uint64(3), np.uint64(7), np.uint64(16)
    quads = lanes // 4 * 4
    whole = symbols.size // lanes
    for lane in range(0, quads, 4):
        at0, at1, at2, at3 = (
            positions[lane],
            positions[lane + 1],
            positions[lane + 2],
            positions[lane + 3],
        )
        row = 0
        while row < whole:
            window0 = swapped(windows[np.int64(at0 >> three)]) << (at0 & seven)
            window1 = swapped(windows[np.int64(at1 >> three)]) << (at1 & seven)
            window2 = swapped(windows[np.int64(at2 >> three)]) << (at2 & seven)
            window3 = swapped(windows[np.int64(at3 >> three)]) << (at3 & seven)
            stop = min(row + reads, whole)
            while row < stop:
                index = row * lanes + lane
                entry0 = np.uint64(short[np.int64(window0 >> glance)])
                entry1 = np.uint64(short[np.int64(window1 >> glance)])
                entry2 = np.uint64(short[np.int64(window2 >> glance)])
                entry3 = np.uint64(short[np.int64(window3 >> glance)])
                if entry0 == 0:
                    entry0 = np.uint64(table[np.int64(window0 >> shift)])
                if entry1 == 0:
                    entry1 = np.uint64(table[np.int64(window1 >> shift)])
                if entry2 == 0:
                    entry2 = np.uint64(table[np.int64(window2 >> shift)])
                if entry3 == 0:
                    entry3 = np.uint64(table[np.int64(window3 >> shift)])
                symbols[index] = entry0 & np.uint64(0xFFFF)
                symbols[index + 1] = entry1 & np.uint64(0xFFFF)
                symbols[index + 2] = entry2 & np.uint64(0xFFFF)
                symbols[index + 3] = entry3 & np.uint64(0xFFFF)
                window0 <<= entry0 >> sixteen
                window1 <<= entry1 >> sixteen
                window2 <<= entry2 >> sixteen
                window3 <<= entry3 >> sixteen
                at0 += entry0 >> sixteen
                at1 += entry1 >> sixteen
                at2 += entry2 >> sixteen
                at3 += entry3 >> sixteen
                row += 1
        positions[lane], positions[lane + 1] = at0, at1
        positions[lane + 2], positions[lane + 3] = at2, at3
    for lane in range(lanes):
        at = positions[lane]
        first = whole * lanes + lane if lane < quads else lane
        for index in range(first, symbols.size, lanes):
            window = swapped(windows[np.int64(at >> three)]) << (at & seven)
            entry = np.uint64(table[np.int64(window >> shift)])
            symbols[index] = entry & np.uint64(0xFFFF)
            at += entry >> sixteen
        positions[lane] = at


def gaps_decode(gaps: NDArray[Any], values: NDArray[Any], codes: NDArray[Any]) -> None:
    """Put values into `codes`, each so many places after the one before (gaps.py).

    That the last one is inside has been checked.
    """
    place = -1
    for index in range(gaps.size):
        place += np.int64(gaps[index]) + 1
        codes[place] = values[index]


def look_up(table: NDArray[Any], indices: NDArray[Any], found: NDArray[Any]) -> None:
    """found[i] = table[indices[i]]; the table has an entry for all that the indices' type holds."""
    for index in range(indices.size):
        found[index] = table[indices[index]]


def swapped(number: np.uint64) -> np.uint64:
    """The bytes in the other order; one instruction when compiled."""
    mask8, mask16 = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
    eight, sixteen, half = np.uint64(8), np.uint64(16), np.uint64(32)
    number = number >> eight & mask8 | (number & mask8) << eight
    number = number >> sixteen & mask16 | (number & mask16) << sixteen
    return number >> half | number << half
