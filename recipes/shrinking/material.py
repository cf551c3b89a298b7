"""The pictures: which calibrate, which select, which only score; read once and held."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from compress.spec import ModelSpec, Preprocess
from compress.task import Batch
from recipes.pictures.opening import open_pictures
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import Chosen, Pictures, need_labels
from recipes.toolbox.progress import bar
from recipes.toolbox.scoring import Pixels

CALIBRATION = 128
SELECTION = 500
_BLOCK = 16
# Beyond it pictures are decoded anew whenever they are scored.
_MOST_HELD_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures to score on, prepared, and their labels, int64 (N,), where they have any."""

    pixels: Pixels
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Material:
    """What shrink sees. No picture is in two of the three."""

    preprocess: Preprocess
    calibration: Callable[[], Iterator[Batch]]
    selection: Shown
    test: Shown | None
    notes: tuple[str, ...]


def gather_material(images: Path, test: Path | None, spec: ModelSpec) -> Material:
    """Open, check and read the pictures of `images` and `test` for the net of `spec`.

    By rank, the 1st, 3rd, 5th, ... calibrate and the others select; of more than 256 and 1,000
    pictures every so-manyth. Raises DataError for fewer than 2 and for what cannot be read.
    """
    found = open_pictures(images, spec.classes)
    if len(found) < 2:
        raise DataError(
            f"{images}: {len(found)} picture; at least 2 are needed, one to calibrate and one to "
            f"select on, and some hundred to tell small losses: add pictures"
        )
    labelled = None if test is None else open_pictures(test, spec.classes)
    if labelled is not None:
        need_labels(labelled, f"--test {test}")
    calibrating = Chosen(found, _spread(range(0, len(found), 2), CALIBRATION))
    selecting = Chosen(found, _spread(range(1, len(found), 2), SELECTION))
    pixels = _held(calibrating, spec, "reading calibration pictures")

    def calibration() -> Iterator[Batch]:
        for start in range(0, len(pixels), _BLOCK):
            yield spec.preprocess.normalise(pixels[start : start + _BLOCK])

    kind = "unlabelled" if found.labels is None else "labelled"
    note = (
        f"Of {len(found):,} {kind} pictures in {images.name}, {len(calibrating)} calibrated and "
        f"{len(selecting)} others selected."
    )
    return Material(
        preprocess=spec.preprocess,
        calibration=calibration,
        selection=_shown(selecting, spec, "reading selection pictures"),
        test=None if labelled is None else _shown(labelled, spec, "reading test pictures"),
        notes=(note, *_few(len(selecting))),
    )


def _spread(ranks: range, most: int) -> list[int]:
    """At most `most` of `ranks`, evenly: folders are often sorted by class."""
    if len(ranks) <= most:
        return list(ranks)
    return [ranks[i * len(ranks) // most] for i in range(most)]


def _few(count: int) -> tuple[str, ...]:
    if count >= 100:
        return ()
    return (
        f"Only {count} pictures selected: one of them is {100 / count:.1f} points. Give some "
        f"hundred.",
    )


def _shown(pictures: Pictures, spec: ModelSpec, what: str) -> Shown:
    return Shown(_held(pictures, spec, what), pictures.labels)


def _held(pictures: Pictures, spec: ModelSpec, what: str) -> Pixels:
    """The prepared pictures in memory, or where those are too many, prepared when asked for."""
    channels, height, width = spec.input_shape[1:]
    prepared = Prepared(pictures, spec.preprocess, (height, width))
    if math.prod((len(pictures), channels, height, width)) > _MOST_HELD_BYTES:
        return prepared
    pixels = np.empty((len(pictures), height, width, channels), np.uint8)
    for start in bar(range(0, len(pictures), _BLOCK), what):
        pixels[start : start + _BLOCK] = prepared[start : start + _BLOCK]
    return pixels
