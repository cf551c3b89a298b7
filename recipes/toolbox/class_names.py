"""A file of class names: a .txt with one name a line, or .json in the forms that are about.

['tench', ...]; [['n01440764', 'tench'], ...]; {'0': 'tench', ...}, transformers' id2label; and
{'0': ['n01440764', 'tench'], ...}, Keras' imagenet_class_index.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
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
    if isinstance(found, dict):
        found = [found.get(str(number)) for number in range(len(found))]
    names = [_name(entry) for entry in found] if isinstance(found, list) else [None]
    if None in names:
        where = f"entry {names.index(None)} is no name" if isinstance(found, list) else "no list"
        raise DataError(
            f"{path}: {where}; give a list of class names, class 0 first, or an object with the "
            f'names by number, "0" first'
        )
    return tuple(str(name).strip() for name in names)


def _name(entry: object) -> str | None:
    """A text, or the text behind the class's id."""
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str):
        entry = entry[1]
    return entry if isinstance(entry, str) else None


def short_names(names: Sequence[str]) -> tuple[str, ...]:
    """ImageNet's names are lists of synonyms: the first of each, where no other class has it."""
    firsts = [name.partition(",")[0].strip() for name in names]
    counts = Counter(firsts)
    return tuple(
        first if first and counts[first] == 1 else name
        for first, name in zip(firsts, names, strict=True)
    )
