"""Inputs made up for timing: random, of the file's shapes and types, at batch 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fixed(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """The shape at batch 1. Raises ValueError where more than the batch is free."""
    sizes = [1 if i == 0 and not isinstance(n, int) else n for i, n in enumerate(shape)]
    if not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(f"input {name!r} has free dimensions {list(shape)}; export fixed ones")
    return tuple(int(n) for n in sizes)


def random_input(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[np.generic]:
    """Normal floats; integers over the whole range of small types, 0 or 1 for the others."""
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, int(limits.max) + 1, shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
