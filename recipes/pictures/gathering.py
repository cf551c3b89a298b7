"""The pictures of several paths, files and folders mixed, as one source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.pictures.decoding import SUFFIXES
from recipes.pictures.opening import open_pictures
from recipes.pictures.sources import Labels, PictureFolder, Pictures


@dataclass(frozen=True, eq=False)
class Joined:
    """Sources one after the other; labelled where every one is."""

    sources: tuple[Pictures, ...]

    @property
    def labels(self) -> Labels | None:
        found = [source.labels for source in self.sources]
        known = [labels for labels in found if labels is not None]
        return np.concatenate(known) if len(known) == len(found) else None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.sources[0].classes

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def name(self, index: int) -> str:
        source, place = self._find(index)
        return source.name(place)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        source, place = self._find(index)
        return source.pixels(place)

    def _find(self, index: int) -> tuple[Pictures, int]:
        starts = list(accumulate(map(len, self.sources), initial=0))
        which = bisect_right(starts, index) - 1
        return self.sources[which], index - starts[which]


def gather(paths: Sequence[Path], classes: Sequence[str] = ()) -> Pictures:
    """Picture files by their names' ending, everything else as `open_pictures` takes it.

    `classes`: the names of the net's classes. Raises DataError where a path holds no picture.
    """
    found = [_open(path, classes) for path in paths]
    return found[0] if len(found) == 1 else Joined(tuple(found))


def _open(path: Path, classes: Sequence[str]) -> Pictures:
    if path.is_file() and path.suffix.casefold() in SUFFIXES:
        return PictureFolder((path,), None, tuple(classes))
    return open_pictures(path, classes)
