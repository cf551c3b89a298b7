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
) -> bool:
    """rANS from the first symbol to the last; False where the words end too early.

    at: [place in words, lane], moved on. table: for each context the symbols of the first slots
    of equal buckets, at least 2. packed: (contexts, alphabet), frequency | first slot << 16.
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
        lane += 1
        if lane == lanes:
            lane = 0
    at[0], at[1] = place, lane
    return True
