"""scikit-learn's 8 x 8 digits as the recipes' data: uint8 pictures in three splits."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np

from recipes.datasets import Split, Splits


@functools.cache
def digit_splits() -> Splits:
    """1,097 training, 300 validation, 400 test pictures, (N, 8, 8), values 0 to 16."""
    # Read without importing scikit-learn, which takes longer than everything else here.
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    table = np.loadtxt(
        Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=","
    )
    images, labels = table[:, :-1], table[:, -1]
    order = np.random.default_rng(0).permutation(len(images))
    pixels = images[order].astype(np.uint8).reshape(-1, 8, 8)
    names = labels[order].astype(np.int64)
    parts = [Split(pixels[a:b], names[a:b]) for a, b in ((0, 1097), (1097, 1397), (1397, 1797))]
    return Splits(*parts)
