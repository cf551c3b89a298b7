"""Lengths of an optimal prefix code whose words are at most `max_length` bits long.

Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes",
J. ACM 37 (1990), the package-merge form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import RangeError

MAX_LENGTH = 15
# A package at level l holds at most l times each symbol, so its weight stays below 2**63.
_MAX_TOTAL = 1 << 58


def code_lengths(
    counts: NDArray[np.integer[Any]], max_length: int = MAX_LENGTH
) -> NDArray[np.uint8]:
    """Bits of each symbol's word in an optimal code; 0 for a symbol that does not occur.

    counts: (alphabet,), occurrences of each symbol. max_length: 1 to 15.
    A symbol that occurs alone gets length 1 (see huffman.encode, which then writes no bits).
    Equal counts: the smaller symbol gets the shorter or equal word, so equal inputs give equal
    bytes. Raises RangeError for a negative count, counts above 2**58 in all, or more symbols
    than 2**max_length.
    """
    if not 1 <= max_length <= MAX_LENGTH:
        raise RangeError(f"max_length of {max_length}: allowed are 1 to {MAX_LENGTH} bits")
    if counts.ndim != 1 or (counts.size and int(counts.min()) < 0):
        raise RangeError(f"counts of shape {counts.shape}: allowed is one axis, none below 0")
    if float(counts.sum(dtype=np.float64)) >= _MAX_TOTAL:
        raise RangeError("counts sum to 2**58 or more: split the stream")
    lengths = np.zeros(counts.size, np.uint8)
    used = np.flatnonzero(counts)
    if used.size > 1 << max_length:
        raise RangeError(
            f"{used.size} symbols in words of at most {max_length} bits: allowed are "
            f"{1 << max_length}; raise max_length or code fewer different symbols"
        )
    if used.size < 2:
        lengths[used] = 1
        return lengths
    # Rarest first, and among equals the greatest symbol first: those get the longer words.
    order = used[::-1][np.argsort(counts[used[::-1]], kind="stable")]
    weights = counts[order].astype(np.int64)
    lengths[order] = _depths(weights, max_length, roots=1)
    return lengths


def forest_depths(
    counts: NDArray[np.integer[Any]], roots: int, max_depth: int
) -> NDArray[np.uint8]:
    """(k,) depth of each symbol in the cheapest forest of so many binary trees; 0 is a root.

    counts: (k,), each above 0. Huffman's merging, stopped when `roots` trees are left. Raises
    RangeError for more symbols than roots * 2**max_depth.
    """
    if counts.size > roots << max_depth:
        raise RangeError(
            f"{counts.size} symbols in {roots} trees of at most {max_depth} levels: allowed are "
            f"{roots << max_depth}"
        )
    depths = np.zeros(counts.size, np.uint8)
    if counts.size > roots:
        order = np.argsort(counts[::-1], kind="stable")
        depths[::-1][order] = _depths(counts[::-1][order].astype(np.int64), max_depth, roots)
    return depths


def _depths(weights: NDArray[np.int64], most: int, roots: int) -> NDArray[np.uint8]:
    """Depths of leaves of ascending `weights`, more than `roots` of them.

    Going down the levels, the cheapest 2 (n - roots) items of the last one are what must be
    merged; every leaf among the chosen adds one bit, every package opens two items a level below.
    """
    depths = np.zeros(weights.size, np.uint8)
    chosen = 2 * (weights.size - roots)
    for is_leaf in reversed(_levels(weights, most)):
        leaves = int(np.count_nonzero(is_leaf[:chosen]))
        depths[:leaves] += 1
        chosen = 2 * (chosen - leaves)
    return depths


def _levels(weights: NDArray[np.int64], max_length: int) -> list[NDArray[np.bool_]]:
    """For each level, from the deepest up, which of its items in order of weight are leaves."""
    leaves = np.ones(weights.size, np.bool_)
    levels = [leaves]
    items = weights
    for _ in range(max_length - 1):
        pairs = items.size // 2
        packages = items[0 : 2 * pairs : 2] + items[1 : 2 * pairs : 2]
        items = np.concatenate([weights, packages])
        order = np.argsort(items, kind="stable")  # a leaf before a package of its weight
        items = items[order]
        levels.append(order < weights.size)
    return levels
