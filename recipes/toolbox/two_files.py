"""Two files of one net, run on the same pictures: prepared ones, or drawn where none are given."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from recipes.pictures.opening import open_pictures
from recipes.pictures.preparing import Prepared
from recipes.pictures.presets import preprocess_for
from recipes.pictures.sources import Chosen
from recipes.toolbox.model_files import Feed, as_runnable, open_session, whole_batches
from targets.artifact import Session
from targets.file_grids import FileGrids, file_grids
from targets.metadata import ArtifactMetadata

FloatArray = NDArray[np.float32]
DRAWN = 16
# Pictures that are looked at tensor by tensor: all tensors of both files are held at once.
_LOOKED_AT = 4
_BLOCK = 16


@dataclass(frozen=True, eq=False)
class Opened:
    """A file that takes pictures, loaded, and what it says of its net (None: nothing)."""

    path: Path
    session: Session
    feed: Feed
    said: ArtifactMetadata | None

    def predict(self, batch: FloatArray) -> FloatArray:
        """float32 (N, C, H, W) -> (N, numbers)."""
        once = whole_batches(lambda b: self.session.predict(self._turned(b)), self.feed.batch)
        return once(batch).reshape(len(batch), -1)

    def tensors(self, batch: FloatArray) -> dict[str, FloatArray]:
        """Every tensor by the file's name; a multiple of the feed's batch."""
        return dict(self.session.tensors(self._turned(batch)))

    def grids(self) -> FileGrids:
        """The integer grids that the file carries."""
        with tempfile.TemporaryDirectory() as folder:
            return file_grids(as_runnable(self.path, Path(folder)))

    def _turned(self, batch: FloatArray) -> FloatArray:
        return batch.transpose(0, 2, 3, 1) if self.feed.channels_last else batch


def open_pair(first: Path, second: Path) -> tuple[Opened, Opened]:
    """Both files, which must take pictures of the same size; DataError where they do not."""
    ours, theirs = (Opened(path, *open_session(path)) for path in (first, second))
    sizes = [(f.feed.channels, f.feed.height, f.feed.width) for f in (ours, theirs)]
    if sizes[0] != sizes[1]:
        one, other = (f"{w} x {h} pixels of {c} channels" for c, h, w in sizes)
        raise DataError(
            f"{first} takes {one}, {second} {other}; compare two files of one net and one size"
        )
    return ours, theirs


class Shown:
    """The pictures that both files see, as batches, and what they are, in words."""

    def __init__(
        self, files: tuple[Opened, Opened], data: Path | None, preprocess: str | None, most: int
    ) -> None:
        self._feed = files[0].feed
        told = next((f.said.preprocess for f in files if f.said is not None), None)
        if told is None and preprocess is not None:
            shape = (self._feed.channels, self._feed.height, self._feed.width)
            told = preprocess_for(str(files[0].path), preprocess, shape)
        self._preprocess = told
        self._data = data
        self._most = most if data is not None else min(most, DRAWN)
        self._range = None if data is not None else _input_range(files)
        self._prepared = None if data is None else self._open(files, data)
        self.count = self._most if self._prepared is None else len(self._prepared)
        many = math.lcm(*(f.feed.batch for f in files))
        self._few = many * max(1, _LOOKED_AT // many)

    def words(self) -> str:
        """Where the pictures come from."""
        if self._prepared is not None:
            return f"{self.count:,} pictures of {self._data}"
        if self._range is not None:
            low, high = self._range
            return f"{self.count} random inputs in [{low:.4g}, {high:.4g}], the range of the grid"
        if self._preprocess is not None:
            return f"{self.count} pictures of random pixels, prepared as the files say"
        return f"{self.count} random inputs in [0, 1], as the files do not say what they take"

    def few_words(self) -> str:
        """What `few` gives, behind `words`."""
        count = min(self.count, self._few)
        return "the first of them" if count == 1 else f"the first {count} of them"

    def batches(self) -> Iterator[FloatArray]:
        """float32 (N, C, H, W), the same at each call."""
        for start in range(0, self.count, _BLOCK):
            yield self._part(start, min(self.count, start + _BLOCK))

    def few(self) -> FloatArray:
        """As many as both files take at once, 4 or so; the last ones are repeated if need be."""
        batch = self._part(0, min(self.count, self._few))
        return np.resize(batch, (self._few, *batch.shape[1:]))

    def _open(self, files: tuple[Opened, Opened], data: Path) -> Prepared:
        if self._preprocess is None:
            raise DataError(
                f"{files[0].path} does not say how pictures are prepared for it; add --preprocess "
                f"imagenet, caffe, inception, unit or a .json file"
            )
        source = open_pictures(data)
        # Spread over all: folders lie sorted by class.
        count = min(self._most, len(source))
        chosen = [i * len(source) // count for i in range(count)]
        size = (self._feed.height, self._feed.width)
        return Prepared(Chosen(source, chosen), self._preprocess, size)

    def _part(self, start: int, stop: int) -> FloatArray:
        if self._prepared is not None:
            assert self._preprocess is not None
            return self._preprocess.normalise(self._prepared[start:stop])
        shape = (self._feed.height, self._feed.width, self._feed.channels)
        if self._range is None and self._preprocess is not None:
            return self._preprocess.normalise(
                np.stack([_random(i).integers(0, 256, shape, np.uint8) for i in range(start, stop)])
            )
        low, high = self._range or (0.0, 1.0)
        shape = (self._feed.channels, self._feed.height, self._feed.width)
        each = [_random(i).uniform(low, high, shape) for i in range(start, stop)]
        return np.stack(each).astype(np.float32)


def _random(number: int) -> np.random.Generator:
    return np.random.default_rng(number)


def _input_range(files: tuple[Opened, Opened]) -> tuple[float, float] | None:
    """The real values that the input's grid reaches in the first integer file of the two."""
    for file in files:
        grid = file.grids().activations.get(file.session.inputs[0].name)
        if grid is not None:
            return -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale
    return None
