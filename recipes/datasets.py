"""Data for the recipes: the embedded MNIST, and folders of .npz files that the user gives.

Library code never sees a data set; only recipes import this. No pickle is read, and each length
that a file claims is checked before anything is read or allocated by it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from compress.errors import DataError

MNIST = Path(__file__).resolve().parent / "data" / "mnist"
MNIST_VALIDATION = 5_000
MNIST_SIDE = 28

# Deflate cannot do better than this, so a longer claim is a lie found before allocating for it.
DEFLATE_LIMIT = 1032
MAX_BYTES = 4 << 30
UINT8_CODE = 0x08
MAX_AXES = 4
# RuntimeError: an encrypted member. ValueError: a .npy header that does not parse.
NPZ_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


class PictureBlocks(Protocol):
    """uint8 pictures, (N, H, W[, C]) for a slice or for their numbers, int64 (N,).

    An array, or what reads them when they are asked for (recipes.pictures.Prepared).
    """

    def __len__(self) -> int: ...
    def __getitem__(self, where: slice | NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Split:
    """Pictures, uint8 (N, H, W) grey or (N, H, W, 3) RGB, and their labels, int64 (N,), >= 0."""

    images: PictureBlocks
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """`train` to learn from, `val` to make every choice on, `test` to score once, at the end."""

    train: Split
    val: Split
    test: Split


def mnist(folder: Path = MNIST) -> Splits:
    """MNIST: training pictures 0-54,999, validation 55,000-59,999, test 10,000; (N, 28, 28).

    `folder` holds the four gzipped idx files; the embedded ones by default. Raises DataError for
    a missing or damaged file.
    """
    train = _mnist_part(folder, "train", 60_000)
    test = _mnist_part(folder, "t10k", 10_000)
    cut = len(train) - MNIST_VALIDATION
    return Splits(
        train=Split(train.images[:cut], train.labels[:cut]),
        val=Split(train.images[cut:], train.labels[cut:]),
        test=test,
    )


def _mnist_part(folder: Path, part: str, count: int) -> Split:
    images_path = folder / f"{part}-images-idx3-ubyte.gz"
    labels_path = folder / f"{part}-labels-idx1-ubyte.gz"
    images, labels = read_idx(images_path), read_idx(labels_path)
    shape = (count, MNIST_SIDE, MNIST_SIDE)
    if images.shape != shape:
        raise DataError(f"{images_path}: pictures of shape {images.shape}, expected {shape}")
    if labels.shape != (count,):
        raise DataError(f"{labels_path}: labels of shape {labels.shape}, expected {(count,)}")
    if labels.max() > 9:
        raise DataError(f"{labels_path}: label {labels.max()}, expected digits 0 to 9")
    return Split(images, labels.astype(np.int64))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in a gzipped idx file of unsigned bytes, with 1 to 4 axes.

    The format is the one of the MNIST publication: two zero bytes, the type (8 = uint8), the
    number of axes, one big-endian uint32 an axis, then the values, last axis fastest.
    Raises DataError where the file is missing, no gzip, cut off, longer than it says, of another
    type, or claims more values than its bytes can hold.
    """
    try:
        limit = min(path.stat().st_size * DEFLATE_LIMIT, MAX_BYTES)
        with gzip.open(path) as stream:
            shape = _idx_shape(stream, path)
            count = math.prod(shape)
            if count > limit:
                raise DataError(f"{path}: claims {count} values, can hold at most {limit}")
            # Reading on by one byte finds what lies behind, and the end checks gzip's own CRC.
            values = stream.read(count + 1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a gzipped idx file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged or no gzip file ({error}); fetch it again") from None
    if len(values) != count:
        found = "more" if len(values) > count else f"only {len(values)}"
        raise DataError(f"{path}: header says {count} values, the file holds {found}")
    return np.frombuffer(values, np.uint8).reshape(shape).copy()


def _idx_shape(stream: gzip.GzipFile, path: Path) -> tuple[int, ...]:
    head = stream.read(4)
    if len(head) != 4:
        raise DataError(f"{path}: ends within its header")
    zero, kind, axes = struct.unpack(">HBB", head)
    if zero != 0 or kind != UINT8_CODE or not 1 <= axes <= MAX_AXES:
        raise DataError(
            f"{path}: magic number {int.from_bytes(head, 'big')}, expected an idx file of unsigned "
            f"bytes (2049 for labels, 2051 for pictures)"
        )
    lengths = stream.read(4 * axes)
    if len(lengths) != 4 * axes:
        raise DataError(f"{path}: ends within its header")
    return struct.unpack(f">{axes}I", lengths)


def npz(folder: Path) -> Splits:
    """train.npz, val.npz and test.npz of `folder`: x uint8 (N, H, W, 3), y int64 (N,), >= 0.

    Raises DataError where a file or array is missing, damaged, empty, of another type or shape,
    or where the three do not agree on the pictures' size.
    """
    train, val, test = (npz_split(folder / f"{part}.npz") for part in ("train", "val", "test"))
    for part, split in (("val", val), ("test", test)):
        if split.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{folder / part}.npz: pictures of {split.images.shape[1:]}, "
                f"those of train.npz are {train.images.shape[1:]}"
            )
    return Splits(train, val, test)


def npz_split(path: Path) -> Split:
    """One .npz file of `npz`; DataError where it is not as told there."""
    try:
        with zipfile.ZipFile(path) as archive:
            images = _npz_array(archive, "x", np.dtype(np.uint8), path)
            labels = _npz_array(archive, "y", np.dtype(np.int64), path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected train.npz, val.npz, test.npz") from None
    except NPZ_DAMAGE as error:
        raise DataError(f"{path}: damaged or no .npz file ({error})") from None
    if images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise DataError(f"{path}: x of shape {images.shape}, expected (N, H, W, 3), none empty")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{path}: y of shape {labels.shape}, expected {images.shape[:1]}")
    if labels.min() < 0:
        raise DataError(f"{path}: label {labels.min()}, expected class numbers from 0")
    return Split(images, labels)


def _npz_array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], path: Path
) -> NDArray[Any]:
    """Array `name` of the archive, its claimed length checked before it is read."""
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"{path}: no array {name}, found {archive.namelist()}, expected x and y")
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {name} is packed by method {member.compress_type}, not deflate")
    limit = min(path.stat().st_size * DEFLATE_LIMIT, MAX_BYTES)
    if member.file_size > limit:
        raise DataError(f"{path}: {name} claims {member.file_size} bytes, can hold at most {limit}")
    with archive.open(member) as stream:
        shape = _npy_shape(stream, dtype, f"{path}: {name}")
        count = math.prod(shape) * dtype.itemsize
        if count != member.file_size - stream.tell():
            raise DataError(f"{path}: {name} of shape {shape} is not {member.file_size} bytes long")
        values = stream.read(count + 1)  # one byte on: the end checks the archive's CRC
    if len(values) != count:
        raise DataError(f"{path}: {name} holds {len(values)} bytes, its shape needs {count}")
    return np.frombuffer(values, dtype).reshape(shape).copy()


def _npy_shape(stream: IO[bytes], dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
    version = npy.read_magic(stream)
    if version != (1, 0):
        raise DataError(f"{what} has .npy format {version}, expected (1, 0)")
    shape, column_order, found = npy.read_array_header_1_0(stream)
    if found != dtype:
        raise DataError(f"{what} is of type {found}, expected {dtype}")
    if column_order:
        raise DataError(f"{what} is stored column by column; save np.ascontiguousarray of it")
    return shape
