"""Random crops, mirrors, shifts, brightness and contrast, each picture its own.

What is random is drawn for a whole batch first, `Augmentation.draw`, and done afterwards to any
rows of it, `augment`: so several processes do to their pictures what one would have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from recipes.pictures.resizing import resize

Floats = NDArray[np.float64]
# Szegedy et al. 2015, section 6: width to height of a crop, at most 4 to 3 either way.
_LARGEST_RATIO = math.log(4 / 3)


@dataclass(frozen=True)
class Draws:
    """What chance has decided for the N pictures of a batch; None where nothing is to be done.

    mirrored: bool (N,); offsets: int (2, N), top and left in the padded picture; boxes: (4, N) in
    [0, 1), the crop's area, ratio, top and left; brightness, contrast: (N,) factors.
    """

    mirrored: NDArray[np.bool_] | None = None
    offsets: NDArray[np.int64] | None = None
    boxes: Floats | None = None
    brightness: Floats | None = None
    contrast: Floats | None = None

    def rows(self, where: slice | NDArray[np.int64]) -> Draws:
        """The same for some of the pictures."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return Draws(**{k: None if v is None else v[..., where] for k, v in held.items()})


@dataclass(frozen=True)
class Augmentation:
    """How pictures are changed at random; the defaults change nothing.

    crop: the smallest part of the picture's area, in (0, 1], that is cut out and scaled up to the
    picture's size (Szegedy et al. 2015, arXiv:1409.4842, section 6: 0.08). flip: mirror half of
    the pictures. shift: pad with zeros and crop, by up to so many pixels. brightness, contrast:
    factors from [1 - b, 1 + b], b in [0, 1).
    """

    crop: float = 1.0
    flip: bool = False
    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Decide for `count` pictures."""
        return Draws(
            mirrored=rng.random(count) < 0.5 if self.flip else None,
            offsets=rng.integers(0, 2 * self.shift + 1, (2, count)) if self.shift else None,
            boxes=rng.random((4, count)) if self.crop < 1 else None,
            brightness=_factors(self.brightness, count, rng),
            contrast=_factors(self.contrast, count, rng),
        )


def _factors(most: float, count: int, rng: np.random.Generator) -> Floats | None:
    return rng.uniform(1 - most, 1 + most, count) if most else None


def augment(pixels: NDArray[np.uint8], how: Augmentation, draws: Draws) -> NDArray[np.uint8]:
    """Do what `draws` decided to uint8 (N, H, W[, C]); `pixels` is left as it was."""
    result = pixels
    if draws.boxes is not None:
        result = _resized_crops(result, how.crop, draws.boxes)
    if draws.mirrored is not None:
        result = result.copy()
        result[draws.mirrored] = result[draws.mirrored][:, :, ::-1]
    if draws.offsets is not None:
        result = _shifted(result, how.shift, draws.offsets)
    if draws.brightness is not None:
        result = _blended(result, np.zeros(()), draws.brightness)
    if draws.contrast is not None:
        means = result.mean(axis=tuple(range(1, result.ndim)), keepdims=True)
        result = _blended(result, means, draws.contrast)
    return result


def _resized_crops(pixels: NDArray[np.uint8], smallest: float, boxes: Floats) -> NDArray[np.uint8]:
    """Each picture's box, scaled up to the picture's size.

    Areas are uniform in [smallest, 1], ratios log-uniform in [3/4, 4/3]; a box that would be wider
    or higher than the picture ends at its border.
    """
    height, width = pixels.shape[1:3]
    areas = (smallest + (1 - smallest) * boxes[0]) * height * width
    ratios = np.exp(_LARGEST_RATIO * (2 * boxes[1] - 1))
    highs = np.clip(np.rint(np.sqrt(areas / ratios)), 1, height).astype(int)
    wides = np.clip(np.rint(np.sqrt(areas * ratios)), 1, width).astype(int)
    tops = (boxes[2] * (height - highs + 1)).astype(int)
    lefts = (boxes[3] * (width - wides + 1)).astype(int)
    result = np.empty_like(pixels)
    for i, (top, left, high, wide) in enumerate(zip(tops, lefts, highs, wides, strict=True)):
        cut = pixels[i, top : top + high, left : left + wide].reshape(high, wide, -1)
        result[i] = resize(cut, (height, width), "bilinear").reshape(pixels.shape[1:])
    return result


def _shifted(
    pixels: NDArray[np.uint8], shift: int, offsets: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Crops of the zero-padded pictures."""
    height, width = pixels.shape[1:3]
    widths = [(0, 0), (shift, shift), (shift, shift)] + [(0, 0)] * (pixels.ndim - 3)
    padded = np.pad(pixels, widths)
    tops, lefts = offsets
    rows = tops[:, None, None] + np.arange(height)[None, :, None]
    columns = lefts[:, None, None] + np.arange(width)[None, None, :]
    return padded[np.arange(len(pixels))[:, None, None], rows, columns]


def _blended(pixels: NDArray[np.uint8], away_from: Floats, factors: Floats) -> NDArray[np.uint8]:
    """away_from + factor * (pixel - away_from), rounded half to even, clipped to 0..255."""
    factor = factors.reshape(-1, *[1] * (pixels.ndim - 1))
    return np.clip(np.rint(away_from + factor * (pixels - away_from)), 0, 255).astype(np.uint8)
