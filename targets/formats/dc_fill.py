"""Tensors of a container, decoded right into the bytes of the file that they become part of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled
from compress.coding.direct import DirectDecoder
from compress.errors import ContainerError, RangeError
from targets.formats.dc_codes import plane_streams
from targets.formats.dc_record import ENCODED, Record
from targets.formats.dc_tensor import taken_apart

_LARGEST = np.finfo(np.float32).max


class Filler:
    """Writes values into `target`, as many bytes as the file has, all zero at first.

    elements: how many values there are in all; for few the compiler is not loaded.
    """

    def __init__(self, target: memoryview, elements: int) -> None:
        self._target = target
        self._elements = elements
        self._direct: DirectDecoder | None = None

    def write(self, record: Record, payload: memoryview, place: int) -> bool:
        """Decode a float32 tensor to the byte `place`; False where it has to be decoded first.

        For shared weights with one scale, in planes, by compiled loops. False for damage, too:
        `decode_tensor` says what it is. After False, what is at the place is undefined.
        """
        if record.form != ENCODED or record.axis is not None:
            return False
        try:
            (codebook, scale), codes = taken_apart(record, payload)
            streams = None if codes is None else plane_streams(codes, record.size)
            if streams is None or codebook[0] != 0 or not compiled.worth_it(self._elements):
                return False
            self._direct = self._direct or DirectDecoder(self._target)
            values = _every_value(codebook, scale)
            return self._direct.write(streams, values, place, record.size)
        except (ContainerError, RangeError, ValueError):
            return False

    def copy(self, values: NDArray[Any], place: int) -> None:
        """Put an array's values, little-endian, at the byte `place`."""
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        into: NDArray[Any] = np.ndarray(little.shape, little.dtype, self._target, place)
        into[...] = little


def _every_value(codebook: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """As Encoded.decode has them; none where one is too large or none, which is refused there."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = codebook.astype(np.float32) * scale + np.float32(0)
    return values if np.abs(values).max() < _LARGEST else values[:0]
