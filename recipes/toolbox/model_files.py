"""Any model file, opened to answer on pictures: .onnx, .tflite or a Deep Compression container.

The file's own metadata say how it is fed and what its classes are called; a file of another maker
has none, and then the caller must say it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError, EdgepressError, one_line
from compress.spec import Preprocess
from compress.task import Predict
from recipes.pictures.presets import PRESETS, check_channels, preprocess_for
from recipes.toolbox.class_names import read_class_names
from targets.artifact import Session
from targets.formats.dc_unpack import unpack_onnx
from targets.metadata import ArtifactMetadata
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime

KINDS = (".onnx", ".tflite", ".dc")
_CHANNELS = (1, 3)
_RUNTIMES = {".onnx": OnnxRuntime(), ".tflite": LiteRtRuntime()}

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Feed:
    """What a file takes: `batch` pictures of (channels, height, width); `channels_last`: NHWC."""

    batch: int
    channels: int
    height: int
    width: int
    channels_last: bool = False


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A classifier's file, loaded. `classes` has one name for each output; `named`: real names.

    `told`: the file itself says how it is fed.
    """

    path: Path
    session: Session
    feed: Feed
    preprocess: Preprocess
    classes: tuple[str, ...]
    told: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures that it takes."""
        return self.feed.height, self.feed.width

    @property
    def named(self) -> bool:
        """False where the classes are called by their numbers: '0', '1', ..."""
        return self.classes != _numbers(len(self.classes))

    def predict(self, batch: FloatArray) -> FloatArray:
        """float32 (N, C, H, W) -> float32 (N, classes), in as many calls as the file needs."""
        return whole_batches(self._once, self.feed.batch)(batch)

    def _once(self, batch: FloatArray) -> FloatArray:
        return self.session.predict(_turned(batch, self.feed)).reshape(len(batch), -1)


def open_file(
    path: Path, preprocess: str | None = None, labels: Path | None = None, threads: int = 1
) -> ModelFile:
    """Open `path` by its suffix.

    `preprocess` (a preset or a .json file, see pictures.presets) is needed where the file does not
    say how it is fed, and only used there. `labels`: class names instead of the file's own.
    Raises an EdgepressError, one line, for what is missing, damaged, no classifier, or does not
    say enough.
    """
    session, feed, said = open_session(path, threads)
    count = _count_classes(path, session, feed)
    chosen = said.preprocess if said is not None else _given(path, preprocess, feed)
    check_channels(str(path), chosen, feed.channels)
    classes = _classes(path, said, labels, count)
    return ModelFile(path, session, feed, chosen, classes, told=said is not None)


def open_session(path: Path, threads: int = 1) -> tuple[Session, Feed, ArtifactMetadata | None]:
    """A file that takes pictures, loaded: how it is fed, and what it says of its net."""
    with tempfile.TemporaryDirectory() as folder:
        runnable = as_runnable(path, Path(folder))
        said = _metadata(runnable, path)
        session: Session = _RUNTIMES[runnable.suffix].load(runnable, threads)
    return session, _feed(path, session), said


def need_loadable(path: Path) -> None:
    """Raise as `open_file` does for a file that no runtime would load, whatever it puts out."""
    with tempfile.TemporaryDirectory() as folder:
        runnable = as_runnable(path, Path(folder))
        _RUNTIMES[runnable.suffix].load(runnable)


def as_runnable(path: Path, folder: Path) -> Path:
    """`path` if a stock runtime loads it; a container's .onnx, written into `folder`.

    Raises DataError for a path that is no file or of another kind.
    """
    kind = path.suffix
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file; give one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise DataError(
            f"{path} is of a kind that cannot be run ({kind or 'no suffix'}); give one of "
            f"{', '.join(KINDS)}"
        )
    if kind != ".dc":
        return path
    decoded = folder / f"{path.stem}.onnx"
    unpack_onnx(path, decoded)
    return decoded


def _metadata(runnable: Path, asked: Path) -> ArtifactMetadata | None:
    if runnable.suffix == ".onnx":
        from targets.files import read_bytes
        from targets.formats.onnx_metadata import onnx_metadata

        return onnx_metadata(read_bytes(runnable, "an .onnx file"), str(asked))
    from targets.formats.tflite_schema import tflite_metadata

    return tflite_metadata(runnable)


def _feed(path: Path, session: Session) -> Feed:
    shape = session.inputs[0].shape
    if len(shape) == 4 and shape[1] in _CHANNELS:
        batch, channels, height, width = shape
        feed = Feed(batch, channels, height, width)
    elif len(shape) == 4 and shape[3] in _CHANNELS:
        batch, height, width, channels = shape
        # LiteRT's session turns the axes by itself.
        feed = Feed(batch, channels, height, width, session.inputs[0].layout == "NCHW")
    else:
        raise DataError(
            f"{path} takes an input of shape {list(shape)}; a classifier takes pictures with 1 or "
            f"3 channels, (N, C, H, W) or (N, H, W, C)"
        )
    if min(feed.height, feed.width) == 1:
        raise DataError(
            f"{path} takes {feed.width} x {feed.height} pixels, as files do that leave height and "
            f"width open; export it with a fixed size"
        )
    return feed


def _count_classes(path: Path, session: Session, feed: Feed) -> int:
    """How many numbers come out a picture, found by running the file once on a black one."""
    black = np.zeros((feed.batch, feed.channels, feed.height, feed.width), np.float32)
    try:
        shape = session.predict(_turned(black, feed)).shape
    except EdgepressError:
        raise
    except Exception as error:  # the engines' own exception types share no base class
        raise DataError(f"{path} cannot be run: {one_line(error)}; export it anew") from error
    each = [size for size in shape[1:] if size != 1]
    if shape[0] != feed.batch or len(each) != 1:
        raise DataError(
            f"{path} puts out {list(shape)} for {feed.batch} picture(s); a classifier with one "
            f"number for each of at least 2 classes is needed"
        )
    return int(each[0])


def _given(path: Path, preprocess: str | None, feed: Feed) -> Preprocess:
    if preprocess is None:
        raise DataError(
            f"{path} does not say how pictures are prepared for it, as files of edgepress do; add "
            f"--preprocess with {', '.join(PRESETS)} or a .json file (and --labels FILE for the "
            f"class names)"
        )
    return preprocess_for(str(path), preprocess, (feed.channels, feed.height, feed.width))


def _classes(
    path: Path, said: ArtifactMetadata | None, labels: Path | None, count: int
) -> tuple[str, ...]:
    if labels is not None:
        names, origin = read_class_names(labels), str(labels)
    elif said is not None and said.classes:
        names, origin = said.classes, f"{path}'s metadata"
    else:
        return _numbers(count)
    if len(names) != count:
        raise DataError(
            f"{origin} has {len(names):,} class names, {path} puts out {count:,} classes; give "
            f"--labels one name a class"
        )
    return names


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def whole_batches(predict: Predict, size: int) -> Predict:
    """`predict`, which takes `size` pictures at a time, for any number: the rest is filled up."""

    def answer(batch: FloatArray) -> FloatArray:
        missing = -len(batch) % size
        filled = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch
        return predict(filled)[: len(batch)]

    return answer


def _turned(batch: FloatArray, feed: Feed) -> FloatArray:
    return batch.transpose(0, 2, 3, 1) if feed.channels_last else batch
