"""Some dozens of the calibration pictures, spread over all of them, in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.calibrate import checked_batches
from compress.task import Batch, Calibration


def spread(
    calibration: Calibration, shape: tuple[int, ...], asker: str, most: int
) -> NDArray[np.float32]:
    """`most` pictures, (N, C, H, W), at nearly equal distances; all where there are no more.

    Files often lie sorted by class, so that the first ones are all alike. Up to twice as many are
    in memory meanwhile. Raises TaskError for a batch that cannot be used, and where none comes.
    """
    assert most >= 1
    kept: list[Batch] = []
    distance, first = 1, 0
    for _, batch in checked_batches(calibration, shape, asker):
        for picture in range(len(batch)):
            if (first + picture) % distance == 0:
                kept.append(np.array(batch[picture]))
            if len(kept) > 2 * most:
                kept, distance = kept[::2], 2 * distance
        first += len(batch)
    count = min(most, len(kept))
    return np.stack([kept[i * len(kept) // count] for i in range(count)])
