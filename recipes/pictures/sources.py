"""What pictures are to the code that reads them: numbered, named, perhaps labelled, read singly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from recipes.pictures.decoding import decode

Labels = NDArray[np.int64]


class Pictures(Protocol):
    """Numbered pictures; `labels` int64 (N,), each >= 0, or None; `classes` names, or empty."""

    @property
    def labels(self) -> Labels | None: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def name(self, index: int) -> str:
        """What to call the picture in a message: its path, or its number in a file."""
        ...

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB or (H, W) grey; DataError, naming it, where it cannot be read."""
        ...


@dataclass(frozen=True, eq=False)
class PictureFolder:
    """Picture files, each decoded when it is asked for."""

    paths: tuple[Path, ...]
    labels: Labels | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return decode(self.paths[index])


@dataclass(frozen=True, eq=False)
class PictureArray:
    """Pictures of an array file: uint8 (N, H, W) or (N, H, W, 3), and where they come from."""

    images: NDArray[np.uint8]
    labels: Labels | None
    origin: Path
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"{self.origin}, picture {index}"

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self.images[index]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some pictures of another source, in that order: every second one, the first hundred."""

    source: Pictures
    indices: Sequence[int]

    @property
    def labels(self) -> Labels | None:
        every = self.source.labels
        return None if every is None else every[np.asarray(self.indices, np.int64)]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(self.indices[index])

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return self.source.pixels(self.indices[index])


def need_labels(pictures: Pictures, asker: str) -> Labels:
    """The labels, or DataError in the name of `asker`."""
    if pictures.labels is None:
        raise DataError(
            f"{asker} needs labels, {pictures.name(0)} has none; sort the pictures into one folder "
            f"a class, or put a labels.csv (file,label) beside them"
        )
    return pictures.labels


def check_label(label: int, classes: int | None, where: str) -> int:
    """The label; DataError, beginning with `where`, where it is no class number (None: any)."""
    if label < 0 or (classes is not None and label >= classes):
        allowed = "from 0 on" if classes is None else f"0 to {classes - 1}"
        raise DataError(f"{where}: label {label}, class numbers {allowed} are allowed; correct it")
    return label


def check_labels(labels: Labels, classes: int | None, origin: Path | str) -> Labels:
    """All of them; the first wrong one is named by its number in `origin`."""
    wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(wrong.argmax())
        check_label(int(labels[first]), classes, f"{origin}, picture {first}")
    return labels
