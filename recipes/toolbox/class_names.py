"""A file of class names: a .json list, or a .txt with one name a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.errors import DataError

# 100,000 names of 40 letters: as much as a model file's metadata may hold.
_LONGEST = 8 << 20


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in `path`, class 0 first; blank lines at a .txt's end are no names.

    Raises DataError where it cannot be read, is no such list, is empty or has a nameless class.
    """
    try:
        if path.stat().st_size > _LONGEST:
            raise DataError(f"{path}: over {_LONGEST:,} bytes; give one class name a line")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give a .json list or a .txt file with one "
            f"class name a line"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    names = _listed(path, text) if path.suffix.lower() == ".json" else _lines(text)
    if not names or not all(names):
        where = f"class {names.index('')} has no name" if names else "holds no class name"
        raise DataError(f"{path}: {where}; give one class name a line, or a .json list")
    return names


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.rstrip().splitlines())


def _listed(path: Path, text: str) -> tuple[str, ...]:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error}); give a list of class names") from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{path}: no JSON list of texts; give a list of class names, class 0 first")
    return tuple(name.strip() for name in found)
