"""From the bytes of codes in planes to values in a file's bytes, by one compiled loop.

It is a short cut: what it does not know or does not trust it leaves to the readers of gaps.py and
huffman.py, whose result is the same and whose words about damage are exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled
from compress.coding.gaps import MAX_WIDTH

_BLOCK = 1 << 16  # part of the format (planes.py)
_MOST_CODES = 256


class Streams(NamedTuple):
    """Where a tensor's codes are: bytes of the gaps' stream and then of the codes' stream.

    gap_width: 0 to 8, or -1 where each element has its code and there are no gaps.
    """

    data: memoryview
    gap_width: int
    gap_bytes: int
    entries: int


class DirectDecoder:
    """Writes tensors into `target`, writable and zero where they belong. Memory: 600 kB.

    Only where `compiled.worth_it`.
    """

    def __init__(self, target: memoryview) -> None:
        self._target = np.ndarray((max(len(target) - 3, 0),), np.dtype("<u4"), target, 0, (1,))
        self._symbols = np.empty((2, _BLOCK), np.uint8)
        self._queue = np.empty(_BLOCK, np.uint32)
        self._padded = np.empty(0, np.uint8)
        self._decode = compiled.kernel("weights_decode")

    def write(self, streams: Streams, values: NDArray[np.float32], place: int, size: int) -> bool:
        """Put `size` float32 at the byte `place`; False where that has to be done otherwise.

        values: of each code. After False, what is at the place is undefined.
        """
        assert 0 <= place <= place + 4 * size <= self._target.size + 3
        gaps, codes, width = streams.gap_bytes, len(streams.data), streams.gap_width
        if not 2 <= values.size <= _MOST_CODES or width > MAX_WIDTH:
            return False
        if not 0 < streams.entries <= size or gaps > codes:
            return False
        windows = self._windows(streams.data)
        bounds = (0, 8 * gaps, 8 * gaps, 8 * codes, streams.entries, size, place)
        return bool(
            self._decode(
                windows,
                np.array(bounds, np.int64),
                width,
                values.astype("<f4", copy=False).view("<u4"),
                self._target,
                self._symbols,
                self._queue,
            )
        )

    def _windows(self, data: memoryview) -> NDArray[np.uint64]:
        """The 64 bits from each byte on; behind the last there may be any."""
        if self._padded.size < len(data) + 8:
            self._padded = np.zeros(len(data) + 8, np.uint8)
        self._padded[: len(data)] = data
        return np.ndarray((len(data) + 1,), np.dtype("<u8"), self._padded.data, 0, (1,))
