"""A prefix code whose first digit has several bits, every further digit one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.coding.package_merge import forest_depths

Integers = NDArray[np.int64]
FIRST_DIGITS = (1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class Tree:
    """`values` (k,), by depth, then size; `depths` (k,): bits after a first digit of `first`."""

    values: Integers
    depths: NDArray[np.uint8]
    first: int

    def codes(self) -> Integers:
        """(k,) each word as a number of first + depth bits; at each depth, leaves come first."""
        codes = np.zeros(self.values.size, np.int64)
        code, depth = -1, 0
        for place, own in enumerate(self.depths.tolist()):
            code = code + 1 << own - depth
            codes[place], depth = code, own
        return codes

    def entries(self, mark: int) -> list[list[int]]:
        """Of each level, in order: the values of leaves, `mark` for inner nodes, 0 where unused."""
        levels: list[list[int]] = []
        width = 1 << self.first
        for depth in range(int(self.depths.max()) + 1):
            leaves = self.values[self.depths == depth].tolist()
            rest = width - len(leaves)
            inner = rest if np.any(self.depths > depth) else 0
            levels.append(leaves + [mark] * inner + [0] * (rest - inner))
            width = 2 * inner
        return levels

    def cost(self, counts: Integers, step_bits: float) -> float:
        """Bits of symbols that occur `counts` times, in the order of values; with each digit's."""
        depths = self.depths.astype(np.int64)
        return float(counts @ (depths + self.first + step_bits * (depths + 1)))


def grown(values: Integers, counts: Integers, step_bits: float, most: int) -> tuple[Tree, float]:
    """(tree of least cost, its cost): of `values` (k,), distinct, that occur `counts` (k,) times.

    most: levels after the first digit. Costs are bits; a digit counts `step_bits` more.
    """
    found: list[tuple[float, int, Tree]] = []
    for first in FIRST_DIGITS:
        if values.size <= 1 << first + most:
            depths = forest_depths(counts, 1 << first, most)
            order = np.lexsort((values, depths))
            tree = Tree(values[order], depths[order], first)
            found.append((tree.cost(counts[order], step_bits), first, tree))
    cost, _, tree = min(found)
    return tree, cost
