"""Picture files, and resizing as torchvision does it, by Pillow; the only file that knows it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from compress.extras import need
from recipes.pictures.resizing import Interpolation

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# By content, not by name: a .jpg that holds a PNG is common. Pillow's other readers stay closed.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
# A telephone's 108 megapixels fit, 400 MB decoded; a small file can claim far more.
_MAX_PIXELS = 128 << 20
_DEEP_MODES = ("I", "F")


def _pillow(module: str) -> Any:
    return need(f"PIL.{module}", "pictures", "reading pictures")


def decode(path: Path) -> NDArray[np.uint8]:
    """The picture as it is to be looked at: uint8 (H, W, 3), RGB.

    Turned upright as its EXIF orientation says, which telephones write instead of turning the
    pixels (torchvision ignores it). Grey, palette and CMYK become RGB; transparency is dropped, as
    torchvision does. Raises DataError, naming the file, for what is missing, damaged, cut off, of
    another format, larger than 134 megapixels, or deeper than 8 bits a channel.
    """
    image_module, operations = _pillow("Image"), _pillow("ImageOps")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size is checked here; damaged EXIF is no matter
            with image_module.open(path, formats=_FORMATS) as image:
                _check(image, path)
                upright = operations.exif_transpose(image)
                return np.asarray(upright.convert("RGB"))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except Exception as error:  # Pillow's readers document no types for damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as a picture ({reason}); JPEG, PNG, WebP and BMP are read: "
            f"replace or remove the file"
        ) from error


def _check(image: Any, path: Path) -> None:
    """Refuse by the header, before anything is allocated."""
    width, height = image.size
    if width * height > _MAX_PIXELS:
        raise DataError(
            f"{path}: {width} x {height} pixels, at most {_MAX_PIXELS:,} are read; scale it down"
        )
    if image.mode.partition(";")[0] in _DEEP_MODES:
        raise DataError(
            f"{path}: more than 8 bits a channel (mode {image.mode}); save it with 8 bits"
        )


def resize_antialiased(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation
) -> NDArray[np.uint8]:
    """(H, W, C) with 1 or 3 channels -> (*size, C), as torchvision resizes Pillow's pictures.

    Triangle or cubic filter (a = -0.5), widened by the factor by which the picture shrinks;
    'nearest' is Pillow's too, which rounds where an output's centre lies between two pixels.
    """
    module = _pillow("Image")
    chosen = module.Resampling[interpolation.upper()]
    image = module.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    height, width = size
    resized = np.asarray(image.resize((width, height), chosen))
    return resized.reshape(height, width, pixels.shape[2])


def thumbnail(pixels: NDArray[np.uint8], longest: int) -> tuple[str, bytes]:
    """(media type, file) of (H, W, 3) RGB or (H, W) grey, its longer side at most `longest`.

    A JPEG, antialiased; what is small already stays pixel for pixel, as PNG.
    """
    module = _pillow("Image")
    image, stream = module.fromarray(pixels), io.BytesIO()
    if max(image.size) <= longest // 2:
        image.save(stream, "PNG", optimize=True)
        return "image/png", stream.getvalue()
    image.thumbnail((longest, longest), module.Resampling.LANCZOS)
    image.save(stream, "JPEG", quality=82, optimize=True)
    return "image/jpeg", stream.getvalue()
