"""Pictures from whatever a path holds; three such paths of one folder, to train on."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.errors import DataError
from compress.spec import ModelSpec
from recipes.datasets import MAX_BYTES, Split, Splits, npz_split, read_idx
from recipes.pictures.decoding import SUFFIXES
from recipes.pictures.naming import ClassNames
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import (
    PictureArray,
    PictureFolder,
    Pictures,
    check_labels,
    need_labels,
)
from recipes.pictures.tables import TABLE, read_table

_IDX_PICTURES, _IDX_LABELS = "images-idx3", "labels-idx1"
# What unpacking on a Mac leaves behind.
_IGNORED = ("__MACOSX",)
_KINDS = (
    f"a folder of pictures ({', '.join(SUFFIXES)}), of class folders or with a {TABLE}; a .csv, a "
    f".npz (x, y) or an idx file (*{_IDX_PICTURES}*.gz)"
)


def open_pictures(path: Path, classes: Sequence[str] = ()) -> Pictures:
    """The pictures at `path`; `classes`: the names of the net's classes, where there is a net.

    A folder with a labels.csv (see tables.py); a folder of class folders, one a class, searched
    deeply; a folder of pictures, without labels; a .csv anywhere; a .npz file with arrays x and y;
    a gzipped idx file, with labels where their file lies beside it. Hidden files are passed over.

    Class folders are called by a class's name or number. A net that knows no names (its classes
    are called 0, 1, 2, ...) takes as many folders as it has classes in alphabetical order, as
    torchvision's ImageFolder numbers them, and so do we where `classes` is empty.
    Raises DataError for anything else, and for labels that are not class numbers.
    """
    if path.is_dir():
        table = path / TABLE
        return read_table(table, classes) if table.exists() else _folder(path, classes)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give {_KINDS}")
    if path.suffix.casefold() == ".csv":
        return read_table(path, classes)
    if path.suffix.casefold() == ".npz":
        return _array(path, npz_split(path), classes)
    if _IDX_PICTURES in path.name:
        return _idx(path, classes)
    raise DataError(f"{path}: not pictures that can be read; give {_KINDS}")


def open_splits(folder: Path, spec: ModelSpec, *, lazy: bool = False) -> Splits:
    """`train`, `val` and `test` of `folder`, prepared for the net and held in memory.

    With `lazy` each picture is read when it is needed, every time. Each split is a folder or a
    .npz file that `open_pictures` takes, with labels. Raises DataError where one is missing,
    unlabelled, or, to be held in memory, larger than 4 GiB when decoded.
    """
    train, val, test = (_split(folder, part, spec, lazy) for part in ("train", "val", "test"))
    return Splits(train, val, test)


def _split(folder: Path, part: str, spec: ModelSpec, lazy: bool) -> Split:
    found = [p for p in (folder / part, folder / f"{part}.npz") if p.exists()]
    if len(found) != 1:
        raise DataError(
            f"{folder} has {len(found)} of {part} and {part}.npz; one is needed: {_KINDS}"
        )
    pictures = open_pictures(found[0], spec.classes)
    labels = need_labels(pictures, "training")
    *_, height, width = spec.input_shape
    prepared = Prepared(pictures, spec.preprocess, (height, width))
    if lazy:
        return Split(prepared, labels)
    claimed = math.prod(spec.input_shape[1:]) * len(pictures)
    if claimed > MAX_BYTES:
        raise DataError(
            f"{found[0]}: {claimed} bytes decoded, at most {MAX_BYTES} fit; give fewer, "
            f"or read them lazily: open_splits(..., lazy=True)"
        )
    return Split(prepared[:], labels)


def _array(path: Path, split: Split, classes: Sequence[str]) -> PictureArray:
    labels = check_labels(split.labels, len(classes) or None, path)
    return PictureArray(split.images, labels, path, tuple(classes))


def _idx(path: Path, classes: Sequence[str]) -> PictureArray:
    images = read_idx(path)
    if images.ndim != 3 or not images.size:
        raise DataError(f"{path}: array of shape {images.shape}, expected (N, H, W), none empty")
    beside = path.with_name(path.name.replace(_IDX_PICTURES, _IDX_LABELS))
    if not beside.exists():
        return PictureArray(images, None, path, tuple(classes))
    labels = read_idx(beside).astype(np.int64)
    if labels.shape != images.shape[:1]:
        raise DataError(f"{beside}: labels of shape {labels.shape}, pictures: {len(images)}")
    check_labels(labels, len(classes) or None, beside)
    return PictureArray(images, labels, path, tuple(classes))


def _folder(root: Path, classes: Sequence[str]) -> PictureFolder:
    flat = tuple(sorted(p for p in _shown(root) if _is_picture(p)))
    deep = {folder: _below(folder) for folder in sorted(_shown(root)) if folder.is_dir()}
    if flat and any(deep.values()):
        mixed = next(folder for folder, paths in deep.items() if paths)
        raise DataError(
            f"{root}: pictures both in it and in {mixed.name}; sort all into class folders, or none"
        )
    if flat:
        return PictureFolder(flat, None, tuple(classes))
    if not any(deep.values()):
        raise DataError(f"{root}: no picture found{_other_files(root)}; give {_KINDS}")
    for folder, paths in deep.items():
        if not paths:
            raise DataError(f"{folder}: a class without pictures; add some or remove the folder")
    return _class_folders(root, deep, classes)


def _class_folders(
    root: Path, deep: dict[Path, list[Path]], classes: Sequence[str]
) -> PictureFolder:
    numbers, names = _number_folders(root, [folder.name for folder in deep], classes)
    paths = [path for below in deep.values() for path in below]
    labels = np.repeat(np.array(numbers, np.int64), [len(below) for below in deep.values()])
    return PictureFolder(tuple(paths), labels, names)


def _number_folders(
    root: Path, folders: list[str], classes: Sequence[str]
) -> tuple[list[int], tuple[str, ...]]:
    """Each folder's class number, and the names of all classes."""
    if not classes:
        return list(range(len(folders))), tuple(folders)
    known = ClassNames(classes)
    if known.only_numbers and not any(known.knows(name) for name in folders):
        if len(folders) == len(classes):
            return list(range(len(folders))), tuple(folders)
        raise DataError(
            f"{root}: {len(folders)} class folders ({folders[0]}, ...), the net has {len(classes)} "
            f"classes without names; call the folders by class number, write a {TABLE} "
            f"(file,label), or name one folder to have its pictures without labels"
        )
    numbers = [known.number(name, f"{root}, class folder") for name in folders]
    if len(set(numbers)) < len(numbers):
        twice = next(n for i, n in enumerate(numbers) if n in numbers[:i])
        raise DataError(f"{root}: two folders are class {classes[twice]!r}; keep one")
    return numbers, tuple(classes)


def _shown(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.name[0] != "." and p.name not in _IGNORED]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


def _is_picture(path: Path) -> bool:
    return path.suffix.casefold() in SUFFIXES and path.is_file()


def _below(folder: Path) -> list[Path]:
    """All pictures in `folder` and its folders, sorted; links to folders are not followed."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and name not in _IGNORED]
        found += [Path(here, name) for name in files if name[0] != "."]
    return sorted(path for path in found if _is_picture(path))


def _other_files(root: Path) -> str:
    """', but 12 .heic files': what was passed over, by ending."""
    endings = sorted(p.suffix.casefold() for p in _shown(root) if p.is_file())
    if not endings:
        return ""
    most = max(sorted(set(endings)), key=endings.count)
    return f", but {endings.count(most)} files '*{most}'"
