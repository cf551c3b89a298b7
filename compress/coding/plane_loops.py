"""The loops that read planes (planes.py), for numba to compile (compiled.py), as loops.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.loops import swapped


def planes_decode(
    windows: NDArray[np.uint64],
    available: int,
    steps: NDArray[np.int64],
    table: NDArray[Any],
    symbols: NDArray[Any],
    queue: NDArray[np.uint32],
) -> int:
    """Words cut where they end (planes.py), block after block; the bits read, -1 for too few.

    windows: the 64 bits from each byte on, as a little-endian number; `available` bits. steps:
    (2, number), how many bits of each word, and how many words end there. table: for each step,
    the symbol of every word that may come, of those that go on any. queue: work space of a block,
    whose size its is.
    """
    position = 0
    for low in range(0, symbols.size, queue.size):
        block = symbols[low : low + queue.size]
        position = plane_block(windows, position, available, steps, table, block, queue)
        if position < 0:
            return -1
    return position


def plane_block(
    windows: NDArray[np.uint64],
    position: int,
    available: int,
    steps: NDArray[np.int64],
    table: NDArray[Any],
    symbols: NDArray[Any],
    queue: NDArray[np.uint32],
) -> int:
    """A block, at most 2**16 symbols, from the bit at `position` on; the bit after it, or -1."""
    three, seven, whole, sixteen = np.uint64(3), np.uint64(7), np.uint64(64), np.uint64(16)
    low_half, high_half = np.uint64(0xFFFF), np.uint64(0xFFFF0000)
    active, first, begun = np.int64(symbols.size), np.int64(0), np.int64(1)
    for step in range(steps.shape[1]):
        bits, ended = steps[0, step], np.uint64(steps[1, step])
        if active * bits > available - position:
            return -1
        at, width = np.uint64(position), np.uint64(bits)
        shift, table_from = whole - width, np.uint64(first)
        position += active * bits
        reads = 57 // bits
        left = np.uint64(0)
        row = np.int64(0)
        # A word that goes on keeps its place, in the upper half of its entry, and how far it is
        # beyond those that end, in the lower; a comparison is added up, as a branch costs more.
        while row < active:
            window = swapped(windows[at >> three]) << (at & seven)
            stop = min(row + reads, active)
            at += np.uint64(stop - row) * width
            if step == 0:
                for index in range(np.uint64(row), np.uint64(stop)):
                    word = window >> shift
                    window <<= width
                    symbols[index] = table[word]
                    queue[left] = index << sixteen | (word - ended) & low_half
                    left += np.uint64(word >= ended)
            else:
                for index in range(np.uint64(row), np.uint64(stop)):
                    entry = np.uint64(queue[index])
                    word = (entry & low_half) << width | window >> shift
                    window <<= width
                    symbols[entry >> sixteen] = table[table_from + word]
                    queue[left] = entry & high_half | (word - ended) & low_half
                    left += np.uint64(word >= ended)
            row = stop
        active = np.int64(left)
        if active == 0:
            break
        first += begun << bits
        begun = (begun << bits) - np.int64(ended)
    return position
