"""Some dozens of the calibration pictures, spread over all of them, in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.calibrate import checked_batches
from compress.task import Batch, Calibration


def spread(
    calibration: Calibration, shape: tuple[int, ...], asker: str, most: int
) -> NDArray[np.float32]:
    """At most `most` pictures, (N, C, H, W), at equal distances from the first to near the last.

    Files often lie sorted by class, so that the first ones are all alike. At least half of `most`
    where there are as many. Raises TaskError for a batch that cannot be used, and where none comes.
    """
    assert most >= 1
    kept: list[Batch] = []
    distance, first = 1, 0
    for _, batch in checked_batches(calibration, shape, asker):
        for picture in range(-first % distance, len(batch), distance):
            if (first + picture) % distance == 0:  # it grows when the room is full
                kept.append(np.array(batch[picture]))
            if len(kept) > most:
                kept, distance = kept[::2], 2 * distance
        first += len(batch)
    return np.stack(kept)
