"""labels.csv: which picture of a folder shows what.

The first line names the columns. One holds the file, relative to the table's folder or to the
folder `images` beside it; one holds a class number from 0 or a class name. Others are ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from compress.errors import DataError
from recipes.pictures.naming import ClassNames, whole
from recipes.pictures.sources import Labels, PictureFolder, check_label

TABLE = "labels.csv"
# In order of preference. `name` is neither: here it is the class's name, there the file's.
_FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_path", "img")
_LABEL_COLUMNS = ("label0", "label", "class", "class_index", "class_id", "target", "y")
_IMAGES = "images"
_MAX_BYTES = 256 << 20

Row = tuple[int, str, str]
"""Line number, file, label."""


def read_table(path: Path, classes: Sequence[str] = ()) -> PictureFolder:
    """The pictures that the table lists, in its order. `classes`: the names that the net knows.

    Labels are class numbers, or names, or all empty (no labels). Names are looked up in `classes`;
    without those they are numbered in alphabetical order. Raises DataError, naming the table and
    the line, for a missing column or picture, a picture listed twice, and a label that is
    missing, no class, or out of range.
    """
    rows = _rows(path)
    files = tuple(_find(path, line, file) for line, file, _ in rows)
    _refuse_twice(path, rows)
    written = [label for _, _, label in rows]
    if not any(written):
        return PictureFolder(files, None, tuple(classes))
    return PictureFolder(files, *_numbers(path, rows, classes))


def _rows(path: Path) -> list[Row]:
    text = _text(path)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip().casefold() for name in next(reader, [])]
        file, label = (_column(path, columns, known) for known in (_FILE_COLUMNS, _LABEL_COLUMNS))
        rows = [_row(path, reader.line_num, cells, file, label) for cells in reader if any(cells)]
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {error}; quote cells that hold {delimiter!r}"
        ) from None
    if not rows:
        raise DataError(f"{path}: lists no picture; add lines below the first")
    return rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes, at most {_MAX_BYTES} are read")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def _column(path: Path, columns: list[str], known: tuple[str, ...]) -> int:
    for name in known:
        if name in columns:
            return columns.index(name)
    raise DataError(
        f"{path}: columns {', '.join(columns) or 'none'}; one of {', '.join(known)} is needed"
    )


def _row(path: Path, line: int, cells: list[str], file: int, label: int) -> Row:
    if len(cells) <= max(file, label):
        raise DataError(f"{path}, line {line}: {len(cells)} cells, the first line has more columns")
    return line, cells[file].strip(), cells[label].strip()


def _find(path: Path, line: int, file: str) -> Path:
    """The listed picture, in the table's folder or in `images` beside it, nowhere else."""
    relative = PurePosixPath(file)
    if not file or relative.is_absolute() or ".." in relative.parts or "\0" in file:
        raise DataError(f"{path}, line {line}: {file!r} is no file name within {path.parent}")
    for folder in (path.parent, path.parent / _IMAGES):
        if (folder / relative).is_file():
            return folder / relative
    raise DataError(f"{path}, line {line}: {file} is not in {path.parent}; add it or cut the line")


def _refuse_twice(path: Path, rows: list[Row]) -> None:
    lines: dict[PurePosixPath, int] = {}
    for line, file, _ in rows:
        first = lines.setdefault(PurePosixPath(file), line)
        if first != line:
            raise DataError(f"{path}, line {line}: {file} stands in line {first} too; keep one")


def _numbers(path: Path, rows: list[Row], classes: Sequence[str]) -> tuple[Labels, tuple[str, ...]]:
    """Class numbers, and the names of the classes (empty where nobody has named them)."""
    numbers = [whole(label) for _, _, label in rows]
    named = all(number is None for number in numbers)
    names = tuple(classes)
    if named and not names:
        names = tuple(sorted({label for _, _, label in rows}))
    known = ClassNames(names)
    labels: list[int] = []
    for (line, file, label), number in zip(rows, numbers, strict=True):
        where = f"{path}, line {line}"
        if not label:
            raise DataError(f"{where}: {file} has no label, other lines have; add it")
        if named:
            labels.append(known.number(label, where))
        elif number is None:
            raise DataError(f"{where}: label {label!r} is no whole number, others are; change it")
        else:
            labels.append(check_label(number, len(names) or None, where))
    return np.array(labels, np.int64), names
