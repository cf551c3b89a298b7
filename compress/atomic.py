"""Writes that either happen whole or not at all: written aside, flushed, renamed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from compress.errors import OutputError

_SUFFIX = ".edgepress-part"


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block ends without error.

    For writers that want a file name. A kill leaves at most a hidden `.edgepress-part` file, which
    `sweep` removes; `path` itself is never half written. Raises OutputError, before the block,
    where nothing can be written at `path`.
    """
    make_folder(path.parent)
    try:
        if path.is_dir():  # found out now, not by the renaming after the work
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
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


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it; OutputError where a file or a right stands in the way.

    So before hours of work whose result is to be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    where = f" ({error.filename})" if error.filename and error.filename != str(path) else ""
    return OutputError(
        f"{path} cannot be written: {reason}{where}; give a file in a writable folder"
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    with atomic_path(path) as aside:
        aside.write_bytes(data)


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write `parts`, one after the other, to `path` whole or not at all."""
    with atomic_path(path) as aside, aside.open("wb") as file:
        file.writelines(parts)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` whole or not at all."""
    write_bytes(path, text.encode())


def sweep(folder: Path) -> None:
    """Remove what killed writers left aside in `folder`."""
    for part in folder.rglob(f".*{_SUFFIX}"):
        part.unlink(missing_ok=True)
