"""Prefix codes of many streams of integers as one forest, coded and decoded by array steps alone.

Huffman codes (Han, Mao and Dally 2016, arXiv:1510.00149, section 4) are read bit by bit; here all
symbols of all streams take the same step at once. A word is a first digit of 1 to 4 bits, then
digits of one bit. Level 0 holds the first digit of each symbol; each further level a bit for those
whose word goes on, in their order, and in front of them a 0 for all whose word has ended.

The trees lie in one table, in breadth-first order: the value of a leaf, or -128 for an
inner node. The children of the n-th inner node are entries `children` + 2n and the next.
Entries 0 and 1 are leaves of value 0: there the symbols wait whose word has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from targets.formats.packing import OCTET, Bytes, packed_planes, rows
from targets.formats.prefix_tree import Integers, Tree

T = TypeVar("T")
# In the table, for an inner node; so values lie in -127..127.
INNER = -128
LARGEST = 127
_WAITING = 2


@dataclass(frozen=True, eq=False)
class Heads:
    """The first digits, `first` bits each, of the streams whose trees begin so.

    planes: by width, highest first, each stream filled up to octets. roots: the entry of the table
    for each stream's digit 0, an even number. octets: of each stream.
    """

    first: int
    planes: Mapping[int, Bytes]
    roots: tuple[int, ...]
    octets: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Forest:
    """What a file holds of its streams.

    table: int8. deep: the bits of all levels but the first, of which levels[i] each. sizes: of the
    streams as they lie, each followed by what fills it up to octets, where there is any; stream i
    of those that were planted is number places[i].
    """

    table: NDArray[np.int8]
    children: int
    heads: tuple[Heads, ...]
    deep: Bytes
    levels: tuple[int, ...]
    sizes: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def cuts(self) -> tuple[int, ...]:
        """The sizes of the streams and, where there are any, of the fillers behind them."""
        fills = ((size, -size % OCTET) for size in self.sizes)
        return tuple(size for pair in fills for size in pair if size)

    def kept(self, cut: Sequence[T]) -> list[T]:
        """The streams as they were planted, of what was cut at `cuts`."""
        pieces = iter(cut)
        found: list[T] = []
        for size in self.sizes:
            found.append(next(pieces))
            if size % OCTET:
                next(pieces)
        return [found[place] for place in self.places]


class _Words(NamedTuple):
    """Symbols in their order: `length` bits of each `code`, the first digit of `first` bits."""

    code: NDArray[np.int32]
    length: Bytes
    first: Bytes


def planted(trees: Sequence[Tree], streams: Sequence[Integers]) -> Forest:
    """The forest of `streams`, each of symbols of its own tree."""
    table, roots, children = _table(trees)
    order = sorted(range(len(trees)), key=lambda number: trees[number].first)
    words = {number: _words(trees[number], streams[number]) for number in order}
    heads: list[Heads] = []
    for first, numbers in groupby(order, key=lambda number: trees[number].first):
        alike = list(numbers)
        digits = np.concatenate([words[n].code >> words[n].length - first for n in alike])
        sizes = tuple(words[n].code.size // OCTET for n in alike)
        heads.append(
            Heads(first, packed_planes(digits, first), tuple(roots[n] for n in alike), sizes)
        )
    levels = _levels(_Words(*map(np.concatenate, zip(*words.values(), strict=True))))
    deep = np.concatenate([np.zeros(0, np.uint8), *levels])
    places = {number: place for place, number in enumerate(order)}
    return Forest(
        table,
        children,
        tuple(heads),
        packed_planes(deep, 1)[1],
        tuple(level.size for level in levels),
        tuple(streams[number].size for number in order),
        tuple(places[number] for number in range(len(streams))),
    )


def harvested(forest: Forest) -> list[NDArray[np.int8]]:
    """The symbols of each stream, by the steps that a graph takes."""
    table = forest.table
    inner = (table == INNER).astype(np.int64)
    values = np.where(inner, 0, table).astype(np.int8)
    onward = inner * (forest.children + 2 * np.cumsum(inner) - 2)
    bits = np.split(rows(1)[forest.deep].reshape(-1), np.cumsum(forest.levels, dtype=np.int64))
    node = np.concatenate([_entered(heads) for heads in forest.heads])
    found: list[tuple[NDArray[np.int8], Integers]] = []
    for digits in bits:
        going = inner[node]
        slots = np.cumsum(going) * going
        found.append((values[node], slots))
        if len(found) > len(forest.levels):
            break
        ahead = digits.astype(np.int64)
        ahead[slots] = node
        node = onward[ahead] + digits
    result = found[-1][0]
    for own, slots in found[-2::-1]:
        result = own | result[slots]
    return forest.kept(np.split(result, np.cumsum(forest.cuts))[:-1])


def _table(trees: Sequence[Tree]) -> tuple[NDArray[np.int8], list[int], int]:
    """The table, the place of each tree's root in it, and that of the first inner node's child."""
    by_tree = [tree.entries(INNER) for tree in trees]
    entries = [0] * _WAITING
    roots: list[int] = []
    for levels in by_tree:
        roots.append(len(entries))
        entries += levels[0]
    children = len(entries)
    for level in range(1, max(map(len, by_tree))):
        for levels in by_tree:
            entries += levels[level] if level < len(levels) else []
    return np.array(entries, np.int8), roots, children


def _words(tree: Tree, symbols: Integers) -> _Words:
    """The words of `symbols`, filled up to octets with the tree's first value."""
    filler = np.full(-symbols.size % OCTET, tree.values[0])
    filled = np.concatenate([symbols, filler])
    low = int(tree.values.min())
    codes = np.zeros(int(tree.values.max()) - low + 1, np.int32)
    lengths = np.zeros(codes.size, np.uint8)
    codes[tree.values - low] = tree.codes()
    lengths[tree.values - low] = tree.depths + tree.first
    filled -= low
    return _Words(codes[filled], lengths[filled], np.full(filled.size, tree.first, np.uint8))


def _levels(words: _Words) -> list[Bytes]:
    """The bits of each level after the first, the one in front included."""
    levels: list[Bytes] = []
    left = words.length - words.first
    code = words.code
    while left.any():
        code, left = code[left > 0], left[left > 0] - 1
        levels.append(np.append(np.uint8(0), (code >> left & 1).astype(np.uint8)))
    return levels


def _entered(heads: Heads) -> Integers:
    """The entry of each symbol's first digit."""
    digits = np.zeros(1, np.int64)
    for width, octets in heads.planes.items():
        digits = digits << width | rows(width)[octets].reshape(-1)
    return digits + np.repeat(heads.roots, np.multiply(heads.octets, OCTET))
