"""Writes that either happen whole or not at all: written aside, flushed, renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".edgepress-part"


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block ends without error.

    For writers that want a file name. A kill leaves at most a hidden `.edgepress-part` file, which
    `sweep` removes; `path` itself is never half written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    with atomic_path(path) as aside:
        aside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` whole or not at all."""
    write_bytes(path, text.encode())


def sweep(folder: Path) -> None:
    """Remove what killed writers left aside in `folder`."""
    for part in folder.rglob(f".*{_SUFFIX}"):
        part.unlink(missing_ok=True)
