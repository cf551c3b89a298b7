"""Even grids that float32 values may lie on: found by what the values themselves hint at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from compress.coding.huffman import MAX_ALPHABET

# A grid is looked for on this many values before all are tried.
_GLANCE = 64
# Parts of what all are multiples of that are tried, at most.
_PARTS = 16
# What rounding to float32 changes, at most, of a value.
_ROUNDED = 2.0**-24


def even_grid(values: NDArray[np.float32]) -> tuple[np.float32, NDArray[np.int64]] | None:
    """(step, k) with values = float32(step * k) bit for bit, k below 2**16; None without."""
    if values.size < 2 or not np.isfinite(values).all():
        return None
    for step in _steps(np.abs(values[values != 0])):
        for part in (values[:_GLANCE], values):
            multiples = np.rint(part.astype(np.float64) / float(step)).astype(np.int64)
            if not np.array_equal(on_grid(step, multiples).view("u4"), part.view("u4")):
                break
        else:
            return step, multiples
    return None


def on_grid(step: np.float32, multiples: NDArray[np.int64]) -> NDArray[np.float32]:
    """Products of double precision, rounded once; a zero is +0.0."""
    return (float(step) * multiples.astype(np.float64) + 0.0).astype(np.float32)


def _steps(sizes: NDArray[np.float32]) -> Iterator[np.float32]:
    """Steps that `sizes`, above zero, may be multiples of, made exact by the greatest of them.

    What Euclid's algorithm finds, and parts of it: twice a step is a float32 too, three times it is
    none, mostly.
    """
    if sizes.size == 0 or float(sizes.max()) > float(sizes.min()) * MAX_ALPHABET:
        return
    rising = np.unique(sizes.astype(np.float64))
    divisor = _divisor(rising)
    for part in range(1, _PARTS + 1):
        hint = divisor / part
        times = np.rint(rising[-1] / hint)
        if 1 <= times < MAX_ALPHABET:
            near = np.float32(rising[-1] / times)
            for step in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, 2 * near)):
                if step > np.finfo(np.float32).tiny:
                    yield step


def _divisor(rising: NDArray[np.float64]) -> float:
    """What values that were rounded to float32 are multiples of, if they are of anything.

    Euclid's algorithm on the least values, which lie nearest to what they were, with what each
    remainder may be wrong by: one within that is none. The last remainder is the worst: each before
    it, a multiple of it, tells it better, and the value itself to 24 bits.
    """
    found = float(rising[0])
    for value in map(float, rising[1:_GLANCE]):
        chain = [(value, value * _ROUNDED), (found, found * _ROUNDED)]
        while chain[-1][0] > chain[-1][1]:
            (longer, wrong), (shorter, by) = chain[-2:]
            times = round(longer / shorter)
            chain.append((abs(longer - times * shorter), wrong + times * by))
        found = chain[-2][0]
        for longer, _ in reversed(chain[:-2]):
            found = longer / round(longer / found)
    for value in map(float, rising[_GLANCE :: 1 + rising.size // _GLANCE]):
        found = value / round(value / found)
    return found
