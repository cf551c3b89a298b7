"""Optional packages: imported where they are used, named with the pip command where missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from compress.errors import MissingExtraError


def need(module: str, extra: str, asker: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{asker} needs {module}, which is not installed ({error}); "
            f"run: pip install 'edgepress[{extra}]'"
        ) from error
