"""Small arrays bit for bit: known bytes for each way, any bits at all, each lie refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.coding import arrays
from compress.coding.arrays import pack_array, unpack_array
from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor, write_signed
from compress.encoding import int8_codebook
from compress.errors import ContainerError

FLOAT = np.dtype(np.float32)


def assert_same(values: NDArray[Any]) -> bytes:
    """What comes back has the same type and bits, and every byte is used."""
    data = pack_array(values)
    assert len(data) <= values.nbytes + 1
    cursor = Cursor(data, "values")
    found = unpack_array(cursor, values.dtype, values.size)
    cursor.end()
    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    assert found.tobytes() == values.tobytes()
    return data


def f4(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("values", "data"),
    [
        (f4(), "03"),
        (f4(0, 0, 0), "00"),
        (f4(1), "01"),
        (f4(0.3, 0.3, 0.3), "02 9a99993e"),
        (f4(0.5, 0.5), "08 17 7e 00"),
        (f4(-0.0), "08 37 00 00"),  # minus, exponent 0, no mantissa
        # Step 0.25, the first 0, steps from 1 on, all alike.
        (np.arange(64, dtype=np.float32) / 4, "07 0000803e 00 02 00"),
        # Least -9, spread 15: Huffman words would need a table.
        (np.array([-9, 6, 0, 1], np.int32), "04 11 0f 00 0f 9a"),
        (int8_codebook(), "05 00 02 00"),
        (np.array([7], np.int64), "04 0e 00"),
        (np.arange(1000, dtype=np.int32) * 3 - 5, "05 09 06 00"),
        (np.array([1 << 62, -(1 << 62)], np.int64), "03 0000000000000040 00000000000000c0"),
        (np.array([0.1, 0.2], np.float16), "03 662e 6632"),
    ],
)
def test_known_bytes(values: NDArray[Any], data: str) -> None:
    assert assert_same(values).hex().startswith(data.replace(" ", ""))


def test_trained_and_rounded_floats() -> None:
    """Sizes as the module says: 27, 14 and 11 bits a value, and a table's few bytes."""
    values = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    assert len(assert_same(values)) < 4000 * 27 / 8
    assert len(assert_same(values.astype(np.float16).astype(np.float32))) < 4000 * 14 / 8
    bfloat16 = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert len(assert_same(bfloat16)) < 4000 * 11 / 8
    # Magnitudes alone, as scales are: a bit less each.
    assert len(assert_same(np.abs(values))) < 4000 * 26 / 8


@pytest.mark.parametrize("step", [1.0, 0.0137, 3e-9, 2.5e4])
def test_grids_of_any_step_are_found(step: float) -> None:
    """Also where neither the least magnitude nor the least difference is the step itself."""
    rng = np.random.default_rng(1)
    multiples = rng.integers(-127, 128, 600)
    values = (multiples * float(np.float32(step))).astype(np.float32) + np.float32(0)
    data = assert_same(values)
    assert data[0] == arrays.GRID
    assert len(data) <= 600 + 10
    ladder = (np.arange(1, 500) * float(np.float32(step))).astype(np.float32)
    assert len(assert_same(ladder)) <= 9


@given(st.binary(max_size=400), st.sampled_from(["f4", "f2", "f8", "i1", "i4", "i8"]))
def test_any_bits(raw: bytes, kind: str) -> None:
    size = np.dtype(kind).itemsize
    assert_same(np.frombuffer(raw[: len(raw) // size * size], kind))


@given(
    st.integers(0, 2**32),
    st.integers(0, 40),
    st.sampled_from(["normal", "half", "grid", "ladder", "subnormal", "signs"]),
)
def test_any_floats(seed: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=count).astype(np.float32)
    step = np.float32(abs(rng.normal()) + 1e-3)
    made: dict[str, NDArray[Any]] = {
        "normal": normal,
        "half": normal.astype(np.float16).astype(np.float32),
        "grid": rng.integers(-9, 9, count) * step,
        "ladder": np.arange(count) * step - step,
        "subnormal": normal * np.float32(1e-42),
        "signs": np.copysign(np.float32(0), normal),
    }
    assert_same(made[kind].astype(np.float32))


def refused(data: bytes, dtype: np.dtype[Any], count: int) -> str:
    with pytest.raises(ContainerError) as caught:
        unpack_array(Cursor(data, "values"), dtype, count)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_streams_that_lie() -> None:
    int32 = np.dtype(np.int32)
    assert "cut off" in refused(b"", FLOAT, 3)
    assert "12 bytes needed, 4 left" in refused(b"\3" + bytes(4), FLOAT, 3)
    assert "4 bytes needed" in refused(b"\2\0\0", FLOAT, 3)
    assert "way 9 for values of type float32" in refused(b"\x09", FLOAT, 3)
    assert "way 8 for values of type float64" in refused(b"\x08", np.dtype(float), 3)
    assert "way 4 for values of type float32" in refused(b"\4\0\0", FLOAT, 3)
    assert "spread over 65536" in refused(b"\4\0" + write_varint(65536), int32, 3)
    assert "steps between 1 values" in refused(b"\5\0\0\0", int32, 1)
    nan = np.float32(np.nan).tobytes()
    assert "a grid of step nan" in refused(b"\6" + nan + b"\0\0", FLOAT, 3)
    far = b"\6" + np.float32(1).tobytes() + write_signed(1 << 20) + b"\0"
    assert "a grid of step 1.0" in refused(far, FLOAT, 3)
    assert "24 spare bits" in refused(b"\x08\x18\0\0", FLOAT, 3)
    assert "sign 3" in refused(b"\x08\x60\0\0", FLOAT, 3)
    assert "exponents 255 + 1" in refused(b"\x08\0\xff\x01", FLOAT, 3)
    assert "9 bytes needed" in refused(b"\x08\0\0\0", FLOAT, 3)
    padded = b"\x08\x16\0\0\x10"  # one bit of mantissa a value, and one too many
    assert "padding" in refused(padded, FLOAT, 3)


@given(st.binary(max_size=60), st.sampled_from(["f4", "i1", "i8"]), st.integers(0, 20))
def test_any_bytes_are_values_or_an_error(data: bytes, kind: str, count: int) -> None:
    try:
        found = unpack_array(Cursor(data, "values"), np.dtype(kind), count)
    except ContainerError:
        return
    assert found.shape == (count,)


def test_signed_numbers() -> None:
    for value in (0, -1, 1, -2, 2, 1 << 60, -(1 << 60)):
        assert Cursor(write_signed(value), "it").signed() == value
    assert [write_signed(v)[0] for v in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]
