"""Reading the files that a user names."""

from __future__ import annotations

from pathlib import Path

from compress.errors import DataError


def read_bytes(path: Path, wanted: str) -> bytes:
    """The file's bytes; DataError where it cannot be read. `wanted`: what to give instead."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give {wanted}") from error
