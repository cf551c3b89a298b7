from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding.bits import (
    BitReader,
    BitWriter,
    CodeSink,
    pack_uints,
    read_varint,
    unpack_uints,
    write_varint,
)
from compress.errors import ContainerError, RangeError


def test_pack_uints_writes_the_highest_bit_first() -> None:
    assert pack_uints(np.array([1, 2, 3, 4, 5]), 3) == bytes([0b00101001, 0b11001010])
    assert pack_uints(np.array([0, 0]), 0) == b""
    assert pack_uints(np.array([], np.int64), 7) == b""
    assert pack_uints(np.array([0xDEADBEEF], np.uint32), 32) == bytes.fromhex("deadbeef")


@given(
    st.integers(0, 32).flatmap(lambda w: st.tuples(st.just(w), st.lists(st.integers(0, 2**w - 1))))
)
def test_pack_uints_round_trip(case: tuple[int, list[int]]) -> None:
    width, values = case
    packed = pack_uints(np.array(values, np.uint64), width)
    assert len(packed) == (len(values) * width + 7) // 8
    assert unpack_uints(packed, width, len(values)).tolist() == values


def test_pack_uints_over_several_blocks() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 13, 200_001)
    assert np.array_equal(unpack_uints(pack_uints(values, 13), 13, values.size), values)


@pytest.mark.parametrize(("values", "width"), [([8], 3), ([-1], 3), ([1], 0), ([0], 33), ([0], -1)])
def test_pack_uints_refuses(values: list[int], width: int) -> None:
    with pytest.raises(RangeError):
        pack_uints(np.array(values), width)


def test_unpack_uints_refuses_another_length_and_dirty_padding() -> None:
    for data in (b"\x29", b"\x29\xca\x00", b"\x29\xcb"):
        with pytest.raises(ContainerError):
            unpack_uints(data, 3, 5)
    with pytest.raises(ContainerError):
        unpack_uints(b"", 8, 1 << 60)
    with pytest.raises(RangeError):
        unpack_uints(b"", 8, -1)


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**63 - 1, "ffffffffffffffff7f")],
)
def test_varint_bytes(value: int, data: str) -> None:
    assert write_varint(value).hex() == data
    assert read_varint(b"\xff" + bytes.fromhex(data) + b"\x01", 1) == (value, 1 + len(data) // 2)


@pytest.mark.parametrize(
    "data", ["", "80", "8000", "ff" * 10, "80" * 9 + "01", "ffffffffffffffffff01"]
)
def test_varint_refuses(data: str) -> None:
    with pytest.raises(ContainerError):
        read_varint(bytes.fromhex(data), 0)


def test_varint_range() -> None:
    for value in (-1, 2**63):
        with pytest.raises(RangeError):
            write_varint(value)


@given(st.lists(st.integers(1, 70_000)))
def test_gamma_round_trip(values: list[int]) -> None:
    writer = BitWriter()
    for value in values:
        writer.write_gamma(value)
    data = writer.to_bytes()
    assert len(data) == (writer.bit_count + 7) // 8
    reader = BitReader(data)
    assert [reader.read_gamma(70_000) for _ in values] == values
    assert reader.end() == len(data)


def test_gamma_code_words() -> None:
    writer = BitWriter()
    for value in (1, 2, 3, 4):
        writer.write_gamma(value)
    assert writer.to_bytes() == bytes([0b10100110, 0b01000000])


def test_gamma_refuses_above_its_limit_and_beyond_the_end() -> None:
    writer = BitWriter()
    writer.write_gamma(11)
    with pytest.raises(ContainerError):
        BitReader(writer.to_bytes()).read_gamma(10)
    with pytest.raises(ContainerError):
        BitReader(bytes(1000)).read_gamma(10)
    with pytest.raises(ContainerError):
        BitReader(b"\x00").read_gamma(1 << 20)
    with pytest.raises(ContainerError):
        BitReader(b"").read(1)


def test_reader_refuses_dirty_padding() -> None:
    reader = BitReader(b"\x81")
    reader.read(1)
    with pytest.raises(ContainerError):
        reader.end()


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 65535)), min_size=1), max_size=6)
)
def test_code_sink_equals_joined_strings(parts: list[list[tuple[int, int]]]) -> None:
    text = "".join(f"{c % (1 << w):0{w}b}" if w else "" for part in parts for w, c in part)
    sink = CodeSink(len(text))
    for part in parts:
        codes = np.array([c % (1 << w) for w, c in part], np.uint64)
        sink.append(codes, np.array([w for w, _ in part], np.uint64))
    expected = bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))
    assert sink.to_bytes() == expected
