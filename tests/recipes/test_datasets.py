"""The embedded MNIST is the published one; hostile files are refused before they cost anything."""

from __future__ import annotations

import ast
import contextlib
import gzip
import hashlib
import importlib.util
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from compress.errors import DataError
from recipes import datasets

SCRIPT = datasets.MNIST.parent / "make_mnist.py"


def idx(magic: int, lengths: tuple[int, ...], values: bytes) -> bytes:
    return struct.pack(f">{1 + len(lengths)}I", magic, *lengths) + values


def written(folder: Path, content: bytes, name: str = "a.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


# --- the embedded MNIST


def test_embedded_files_have_the_published_checksums() -> None:
    # The literals of the script, read from its syntax tree, so that the two cannot part.
    tree = ast.parse(SCRIPT.read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    published = ast.literal_eval(values["MD5"])
    assert len(published) == 4
    readme = (datasets.MNIST / "README.md").read_text()
    for name, md5 in published.items():
        content = gzip.decompress((datasets.MNIST / f"{name}.gz").read_bytes())
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5
        assert md5 in readme


def test_embedded_files_carry_no_time_stamp() -> None:
    for path in datasets.MNIST.glob("*.gz"):
        assert path.read_bytes()[4:8] == b"\0\0\0\0"


def test_mnist_splits() -> None:
    data = datasets.mnist()
    assert [len(s) for s in (data.train, data.val, data.test)] == [55_000, 5_000, 10_000]
    for split in (data.train, data.val, data.test):
        assert split.images.shape == (len(split), 28, 28)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert set(split.labels.tolist()) == set(range(10))
    # The first labels of the published files, and the published mean of the training pictures.
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    whole = np.concatenate([data.train.images, data.val.images])
    assert whole.mean() / 255 == pytest.approx(0.13066, abs=5e-6)


def test_validation_is_the_end_of_the_training_file() -> None:
    images = datasets.read_idx(datasets.MNIST / "train-images-idx3-ubyte.gz")
    assert np.array_equal(datasets.mnist().val.images, images[55_000:])


# --- read_idx


@given(array=hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, min_side=0, max_side=5)))
def test_read_idx_gives_back_what_was_written(
    array: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(
        tmp_path_factory.mktemp("idx"), idx(0x800 + array.ndim, array.shape, array.tobytes())
    )
    assert np.array_equal(datasets.read_idx(path), array)
    assert datasets.read_idx(path).shape == array.shape


GOOD = idx(2051, (2, 3, 3), bytes(18))
HOSTILE_IDX = {
    "empty": (b"", "ends within its header"),
    "no lengths": (GOOD[:4], "ends within its header"),
    "half a length": (GOOD[:14], "ends within its header"),
    "one value missing": (GOOD[:-1], "header says 18 values, the file holds only 17"),
    "one value too many": (GOOD + b"\0", "header says 18 values, the file holds more"),
    "another type": (idx(0x0D03, (2, 3, 3), bytes(72)), "magic number 3331"),
    "no axes": (idx(0x0800, (), b"\0"), "magic number 2048"),
    "too many axes": (idx(0x08FF, (1,) * 255, b"\0"), "magic number 2303"),
    "not zero in front": (idx(0x01000803, (2, 3, 3), bytes(18)), "magic number 16779267"),
    "little-endian": (struct.pack("<4I", 2051, 2, 3, 3) + bytes(18), "magic number"),
    "a length of 4 GiB": (idx(2051, (2**32 - 1, 28, 28), bytes(18)), "claims 3367254359280"),
    "a product that wraps 64 bits": (
        idx(0x0804, (2**16, 2**16, 2**16, 2**16), bytes(8)),
        "claims 18446744073709551616",
    ),
}


@pytest.mark.parametrize("case", HOSTILE_IDX)
def test_read_idx_refuses(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE_IDX[case]
    with pytest.raises(DataError, match=message) as caught:
        datasets.read_idx(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_read_idx_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        datasets.read_idx(tmp_path / "a.gz")
    with pytest.raises(DataError, match="damaged or no gzip"):
        datasets.read_idx(tmp_path)


def test_read_idx_refuses_plain_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(GOOD)
    with pytest.raises(DataError, match="damaged or no gzip"):
        datasets.read_idx(tmp_path / "a.gz")


def test_read_idx_refuses_every_truncated_gzip(tmp_path: Path) -> None:
    whole = written(tmp_path, GOOD).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a.gz").write_bytes(whole[:length])
        with pytest.raises(DataError):
            datasets.read_idx(tmp_path / "a.gz")


@given(data=st.data())
def test_read_idx_refuses_flipped_bits_in_the_values(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("idx"), idx(2049, (64,), bytes(range(64))))
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(10, len(whole) - 1))  # the first 10 bytes are gzip's own header
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    with contextlib.suppress(DataError):
        # What changes nothing: the bits that fill up deflate's last byte.
        assert datasets.read_idx(path).tolist() == list(range(64))


def test_mnist_refuses_files_of_another_shape(tmp_path: Path) -> None:
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        written(tmp_path, GOOD, f"{name}-ubyte.gz")
    with pytest.raises(DataError, match=r"shape \(2, 3, 3\), expected \(60000, 28, 28\)"):
        datasets.mnist(tmp_path)


# --- npz


def arrays(count: int = 3) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)
    return {"x": images, "y": np.arange(count, dtype=np.int64)}


def folder_of(path: Path, **train: NDArray[np.generic]) -> Path:
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        np.savez(path / f"{part}.npz", **(arrays(count) | (train if part == "train" else {})))
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_back_what_was_saved(save: Callable[..., None], tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        save(tmp_path / f"{part}.npz", **arrays(count))
    data = datasets.npz(tmp_path)
    for split, count in ((data.train, 3), (data.val, 2), (data.test, 1)):
        assert np.array_equal(split.images, arrays(count)["x"])
        assert np.array_equal(split.labels, arrays(count)["y"])


X = arrays()["x"]
HOSTILE_ARRAYS = {
    "float pictures": ({"x": X.astype(np.float32)}, "type float32, expected uint8"),
    "byte labels": ({"y": np.zeros(3, np.uint8)}, "type uint8, expected int64"),
    "a pickle": ({"y": np.array([None, {}, 1], object)}, "type object, expected int64"),
    "grey pictures": ({"x": X[..., 0]}, "expected \\(N, H, W, 3\\)"),
    "four channels": ({"x": np.zeros((3, 4, 5, 4), np.uint8)}, "expected \\(N, H, W, 3\\)"),
    "no picture": ({"x": X[:0], "y": np.zeros(0, np.int64)}, "none empty"),
    "a label missing": ({"y": np.zeros(2, np.int64)}, "y of shape \\(2,\\), expected \\(3,\\)"),
    "labels of two axes": ({"y": np.zeros((3, 1), np.int64)}, "y of shape \\(3, 1\\)"),
    "a negative label": ({"y": np.array([0, -1, 2])}, "label -1"),
    "column order": ({"x": np.asfortranarray(X)}, "column by column"),
    "another picture size": ({"x": np.zeros((3, 8, 8, 3), np.uint8)}, "those of train.npz are"),
}


@pytest.mark.parametrize("case", HOSTILE_ARRAYS)
def test_npz_refuses_arrays(case: str, tmp_path: Path) -> None:
    train, message = HOSTILE_ARRAYS[case]
    folder_of(tmp_path, **train)
    with pytest.raises(DataError, match=message) as caught:
        datasets.npz(tmp_path)
    assert "\n" not in str(caught.value)


def member(header: str, values: bytes) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + values


def header(shape: str) -> str:
    return f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"


HOSTILE_MEMBERS = {
    "shape that lies": (member(header("(1000000, 224, 224, 3)"), bytes(9)), "is not"),
    "shape below zero": (member(header("(-3, -1, 1, 3)"), bytes(9)), "damaged"),
    "header that runs code": (member("__import__('os')", bytes(9)), "damaged"),
    "no header": (b"", "damaged"),
    "no magic": (b"x" * 200, "damaged"),
    "newer format": (b"\x93NUMPY\x02\x00" + bytes(60), "format \\(2, 0\\)"),
}


@pytest.mark.parametrize("case", HOSTILE_MEMBERS)
def test_npz_refuses_members(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE_MEMBERS[case]
    folder_of(tmp_path)
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", b"")
    with pytest.raises(DataError, match=message):
        datasets.npz(tmp_path)


def test_npz_refuses_a_length_that_lies(tmp_path: Path) -> None:
    folder_of(tmp_path)
    whole = bytearray((tmp_path / "train.npz").read_bytes())
    entry = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"PK\x01\x02"))  # x in the directory
    whole[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "train.npz").write_bytes(whole)
    with pytest.raises(DataError, match="claims 4294967294 bytes"):
        datasets.npz(tmp_path)


def test_npz_refuses_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.npz: no such file"):
        datasets.npz(tmp_path)
    folder_of(tmp_path)
    np.savez(tmp_path / "val.npz", x=X)
    with pytest.raises(DataError, match="no array y"):
        datasets.npz(tmp_path)
    (tmp_path / "val.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"val\.npz: damaged"):
        datasets.npz(tmp_path)


def test_npz_refuses_flipped_values(tmp_path: Path) -> None:
    folder_of(tmp_path)
    whole = bytearray((tmp_path / "train.npz").read_bytes())
    at = whole.index(X.tobytes())
    whole[at] ^= 1
    (tmp_path / "train.npz").write_bytes(whole)
    with pytest.raises(DataError, match="CRC"):
        datasets.npz(tmp_path)


# --- the script that made the MNIST files


def test_the_scripts_unpickler_admits_arrays_only() -> None:
    spec = importlib.util.spec_from_file_location("make_mnist", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    loaded = script.ArraysOnly(io.BytesIO(pickle.dumps(array, protocol=3)))
    assert np.array_equal(loaded.load(), array)
    for bad in (b"cos\nsystem\n(S'true'\ntR.", b"cnumpy\nsave\n.", b"cbuiltins\neval\n."):
        with pytest.raises(pickle.UnpicklingError, match="numpy arrays only"):
            script.ArraysOnly(io.BytesIO(bad)).load()
