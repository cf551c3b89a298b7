"""Optional packages: imported where they are used, named with the pip command where missing."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from compress.errors import MissingExtraError


def need(module: str, extra: str, asker: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError naming the extra that brings it.

    `extra` "": edgepress itself brings it, and somebody left it out.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, extra, asker, f" ({error})") from error


def need_installed(module: str, extra: str, asker: str) -> None:
    """Raise as `need` does, without the time of an import: for asking before hours of work."""
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise _missing(module, extra, asker, "")


def _missing(module: str, extra: str, asker: str, reason: str) -> MissingExtraError:
    wanted = f"edgepress[{extra}]" if extra else "edgepress"
    return MissingExtraError(
        f"{asker} needs {module}, which is not installed{reason}; run: pip install '{wanted}'"
    )
