"""From a decoded picture to the pixels that `Preprocess.normalise` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from compress.spec import Preprocess
from recipes.pictures.decoding import decode, resize_antialiased
from recipes.pictures.resizing import resize
from recipes.pictures.sources import Pictures

# ITU-R BT.601 luma in 1/65536, rounded: the weights of Pillow's conversion to grey.
_LUMA = np.array([19595, 38470, 7471], np.uint32)


def apply(preprocess: Preprocess, path: Path) -> NDArray[np.uint8]:
    """Decode `path` (see decoding.decode) and `prepare` it: uint8 (H, W, C)."""
    return prepare(preprocess, decode(path), str(path))


def prepare(preprocess: Preprocess, pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB or (H, W) grey -> resized, cropped, in `channel_order`: (H, W, C).

    As torchvision does: the longer side becomes int(resize * longer / shorter), and the crop begins
    at round((side - crop) / 2), half to even. A picture smaller than the crop raises DataError
    that begins with `name`: padding would show the net a frame that it was not trained on.
    """
    channels = _grey(pixels) if preprocess.channel_order == "GREY" else _rgb(pixels)
    height, width = channels.shape[:2]
    size = _target(preprocess, height, width)
    if size != (height, width):
        change = resize_antialiased if preprocess.antialias else resize
        channels = change(channels, size, preprocess.interpolation)
    if preprocess.crop is not None:
        channels = _centre(channels, preprocess.crop, name)
    if preprocess.channel_order == "BGR":
        channels = channels[:, :, ::-1]
    return np.ascontiguousarray(channels)


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 1). Pillow's convert('L'), so that arrays need no Pillow."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    return ((pixels @ _LUMA + 0x8000) >> 16).astype(np.uint8)[:, :, None]


def _target(preprocess: Preprocess, height: int, width: int) -> tuple[int, int]:
    """(height, width) after resizing."""
    if preprocess.resize is None:
        return height, width
    if isinstance(preprocess.resize, tuple):
        return preprocess.resize
    short, long = sorted((height, width))
    other = int(preprocess.resize * long / short)
    return (preprocess.resize, other) if height <= width else (other, preprocess.resize)


def _centre(pixels: NDArray[np.uint8], side: int, name: str) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if side > min(height, width):
        raise DataError(
            f"{name}: {width} x {height} pixels before the crop, the net's preprocessing keeps "
            f"{side} x {side}; give larger pictures"
        )
    top, left = round((height - side) / 2), round((width - side) / 2)
    return pixels[top : top + side, left : left + side]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Pictures as an array that is made when it is sliced: `prepared[a:b]` is uint8 (N, H, W, C).

    So it is for an array of picture numbers, in their order. Nothing is kept: memory is that of
    the slice; `prepared[:]` holds them all. `size`: the (H, W) that the net takes; without it the
    first picture of each slice decides for the others.
    """

    source: Pictures
    preprocess: Preprocess
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, where: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """The pictures of the slice or with these numbers, channels in the preprocessing's order.

        Raises DataError, naming the picture, where one cannot be read or has another size.
        """
        every = range(len(self.source))
        chosen = every[where] if isinstance(where, slice) else [every[i] for i in where]
        if not chosen:
            raise DataError(f"no picture at {where} of {len(self.source)}; give some")
        first = self._one(chosen[0], self.size)
        result = np.empty((len(chosen), *first.shape), np.uint8)
        result[0] = first
        for place, index in enumerate(chosen[1:], start=1):
            result[place] = self._one(index, first.shape[:2])
        return result

    def _one(self, index: int, size: tuple[int, ...] | None) -> NDArray[np.uint8]:
        name = self.source.name(index)
        pixels = prepare(self.preprocess, self.source.pixels(index), name)
        height, width = pixels.shape[:2]
        if size is not None and (height, width) != size:
            raise DataError(
                f"{name}: {width} x {height} pixels after preprocessing, {size[1]} x {size[0]} "
                f"are needed; the net's preprocessing has resize={self.preprocess.resize}, "
                f"crop={self.preprocess.crop}: set them, or give pictures of that size"
            )
        return pixels
