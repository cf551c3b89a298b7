"""The one file that is pushed to devices: targets.onboard as a zip application."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from compress.atomic import write_bytes
from compress.errors import OutputError
from targets import onboard

_PACKAGE = "edgepress_onboard"
_MAIN = f"import sys\nfrom {_PACKAGE}.main import main\nsys.exit(main(sys.argv[1:]))\n"
# The oldest date that a zip file can hold, so that equal sources give equal bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def cache_folder() -> Path:
    """Where edgepress keeps what it makes once for this user: $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "edgepress"


def runner_file() -> Path:
    """`python FILE '{"path": ...}'` measures (see targets.onboard); named by its contents.

    In the user's cache folder, or in a temporary one where that cannot be written.
    """
    content = runner_bytes()
    name = f"runner-{hashlib.sha256(content).hexdigest()[:16]}.pyz"
    try:
        return _there(cache_folder() / name, content)
    except (OutputError, OSError, RuntimeError):  # RuntimeError: no home
        return _there(Path(_temporary().name) / name, content)


def _there(path: Path, content: bytes) -> Path:
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
    return path


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="edgepress-")


def runner_bytes() -> bytes:
    """The zip application; the same bytes for the same sources, on any machine."""
    assert onboard.__file__ is not None
    sources = sorted(Path(onboard.__file__).parent.glob("*.py"))
    packed = {f"{_PACKAGE}/{source.name}": source.read_bytes() for source in sources}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"__main__.py": _MAIN.encode(), **packed}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return buffer.getvalue()
