"""A place in bytes that were read from a file: every step checks that they are there."""

from __future__ import annotations

from compress.coding.bits import read_varint, write_varint
from compress.errors import ContainerError


class Cursor:
    """Takes numbers and stretches of bytes, one after the other. Raises ContainerError at the end.

    `what` names the bytes in messages.
    """

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data = memoryview(data)
        self._offset = 0
        self._what = what

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._offset

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, not copied."""
        left = len(self._data) - self._offset
        if count > left:
            raise ContainerError(
                f"{self._what} are cut off: {count} bytes needed, {left} left; get the file again"
            )
        self._offset += count
        return self._data[self._offset - count : self._offset]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        """A non-negative integer below 2**63 (bits.write_varint)."""
        value, self._offset = read_varint(self._data, self._offset)
        return value

    def signed(self) -> int:
        """An integer that `write_signed` wrote."""
        value = self.varint()
        return -(value + 1) // 2 if value & 1 else value // 2

    def rest(self) -> memoryview:
        """All that is left."""
        return self.take(len(self._data) - self._offset)

    def end(self) -> None:
        """Raise ContainerError unless every byte was used."""
        left = len(self._data) - self._offset
        if left:
            raise ContainerError(
                f"{self._what} have {left} bytes more than they need; get the file again"
            )


def write_signed(value: int) -> bytes:
    """An integer of at most 62 bits as a varint: 0, -1, 1, -2, 2, ... are 0, 1, 2, 3, 4, ..."""
    return write_varint(2 * value if value >= 0 else -2 * value - 1)
