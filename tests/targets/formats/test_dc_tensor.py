"""One tensor there and back: every form bit for bit, every lie of a record refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.coding.arrays import pack_array
from compress.coding.bits import write_varint
from compress.coding.gaps import to_gaps
from compress.coding.huffman import pack
from compress.encoding import Encoded, Encoding, Masked, encoding_arrays, int8_codebook
from compress.errors import ContainerError, ExportError
from targets.formats.dc_codes import GAPS, read_codes, write_codes
from targets.formats.dc_record import (
    DTYPES,
    ENCODED,
    MASKED,
    MAX_NAME_BYTES,
    PLAIN,
    Record,
    read_records,
    write_names,
    write_records,
)
from targets.formats.dc_tensor import decode_tensor, encode_tensor, measure_tensor

SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)


def there_and_back(
    array: NDArray[Any], encoding: Encoding | None
) -> tuple[NDArray[Any], Encoding | None]:
    record, payload = encode_tensor("layer.weight", array, encoding)
    assert encode_tensor("layer.weight", array, encoding) == (record, payload)
    read = read_records(write_names([record]), write_records([record]), len(payload))[0]
    assert read == record
    assert measure_tensor(record, memoryview(payload)).value_bytes <= len(payload)
    return decode_tensor(read, memoryview(payload))


def assert_same(array: NDArray[Any], encoding: Encoding | None) -> None:
    """The same bits, type and shape, of the array and of each part of its encoding."""
    found, explained = there_and_back(array, encoding)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert type(explained) is type(encoding)
    if encoding is not None and explained is not None:
        own, back = encoding_arrays(encoding), encoding_arrays(explained)
        for part in own:
            assert (back[part].dtype, back[part].shape) == (own[part].dtype, own[part].shape)
            assert back[part].tobytes() == own[part].tobytes(), part


@given(SHAPES, SEEDS, st.sampled_from(["f4", "i8", "f2", "f8", "i4"]))
def test_plain_tensors_of_any_bits(shape: tuple[int, ...], seed: int, kind: str) -> None:
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * np.dtype(kind).itemsize)
    assert_same(np.frombuffer(raw, kind).reshape(shape), None)


@given(SHAPES, SEEDS, st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_masked_tensors(shape: tuple[int, ...], seed: int, density: float) -> None:
    """Kept weights that are exactly 0.0 stay kept."""
    rng = np.random.default_rng(seed)
    mask = np.asarray(rng.random(shape) < density)
    values = np.asarray(rng.integers(-2, 3, shape), np.float32)
    assert_same(np.where(mask, values, np.float32(0)), Masked(mask))


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    """Any codebook size, index type, channel axis, float or integer grid."""
    shape = draw(SHAPES)
    rng = np.random.default_rng(draw(SEEDS))
    entries = draw(st.sampled_from([1, 2, 3, 16, 255, 256, 257, 1000, 65536]))
    wide = entries > 256 or draw(st.booleans())
    axis = draw(st.sampled_from([None, *range(len(shape))]))
    density = draw(st.sampled_from([0.0, 0.1, 1.0]))
    codes = np.asarray(rng.integers(0, entries, shape) * (rng.random(shape) < density))
    if draw(st.booleans()):
        codebook = rng.integers(-128, 128, entries).astype(np.int8)
    else:
        codebook = rng.normal(size=entries).astype(np.float32)
    codebook[0] = 0
    if entries == 256 and draw(st.booleans()):
        codebook = int8_codebook()
    channels = 1 if axis is None else shape[axis]
    scale = rng.normal(size=channels).astype(np.float32)
    return Encoded(codes.astype(np.uint16 if wide else np.uint8), codebook, scale, axis)


@given(encoded())
@settings(max_examples=80)
def test_encoded_tensors(encoding: Encoded) -> None:
    assert_same(encoding.decode(), encoding)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.99, 1.0])
def test_large_tensors_of_all_densities(sparsity: float) -> None:
    """Many lanes, fillers and long runs of zeros."""
    rng = np.random.default_rng(0)
    codes = (rng.integers(1, 32, (300, 500)) * (rng.random((300, 500)) >= sparsity)).astype("u1")
    codebook = np.arange(32, dtype=np.float32) / 7
    encoding = Encoded(codes, codebook, np.ones(1, np.float32))
    assert_same(encoding.decode(), encoding)


def test_pruned_and_shared_weights_take_fewer_bytes_than_their_codes() -> None:
    rng = np.random.default_rng(0)
    codes = (rng.integers(1, 32, 100_000) * (rng.random(100_000) < 0.08)).astype(np.uint8)
    encoding = Encoded(codes, np.arange(32, dtype=np.float32), np.ones(1, np.float32))
    _, payload = encode_tensor("w", encoding.decode(), encoding)
    share = 0.08
    position = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    floor = 100_000 * (position + share * np.log2(31)) / 8
    assert floor < len(payload) < 1.06 * floor + 32 * 4 + 40


def test_what_the_reader_would_refuse_is_not_written() -> None:
    scale = np.ones(1, np.float32)
    many = Encoded(np.arange(40_000, dtype=np.uint16), np.arange(40_000, dtype=np.float32), scale)
    with pytest.raises(ExportError, match="uses 40000 different codes"):
        encode_tensor("w", many.decode(), many)
    with pytest.raises(ExportError, match="type bool"):
        encode_tensor("w", np.zeros(3, np.bool_), None)
    with pytest.raises(ExportError, match="type float64"):
        encode_tensor("w", np.zeros(3), Masked(np.zeros(3, np.bool_)))
    with pytest.raises(ExportError, match="1 to 1024 bytes"):
        encode_tensor("w" * (MAX_NAME_BYTES + 1), np.zeros(3, np.float32), None)
    with pytest.raises(ExportError, match="8 axes"):
        encode_tensor("w", np.zeros((1,) * 9, np.float32), None)


def test_the_most_codes_that_fit() -> None:
    codebook = np.arange(65_536, dtype=np.float32)
    codes = np.arange(32_767, dtype=np.uint16)
    assert_same(codebook[codes], Encoded(codes, codebook, np.ones(1, np.float32)))


# -- damage -----------------------------------------------------------------------------------


def shared_record() -> tuple[Record, bytes]:
    codes = (np.arange(60, dtype=np.uint8) % 5).reshape(6, 10)
    encoding = Encoded(codes, np.arange(5, dtype=np.float32), np.ones(6, np.float32), 0)
    return encode_tensor("w", encoding.decode(), encoding)


def damaged(record: Record, payload: bytes, **changed: Any) -> str:
    """The message for `record` changed."""
    with pytest.raises(ContainerError) as caught:
        decode_tensor(replace(record, **changed), memoryview(payload))
    message = str(caught.value)
    assert message.startswith(f"tensor {record.name!r} is damaged")
    assert "\n" not in message
    return message


def test_lies_about_an_encoded_tensor() -> None:
    record, payload = shared_record()
    assert payload[0] == 5  # entries of the codebook
    assert "codebook of 0 entries" in damaged(record, b"\0" + payload[1:])
    assert "codebook of 65537" in damaged(record, write_varint(65537) + payload[1:])
    assert "way 7 for values of type int8" in damaged(record, payload, on_integers=True)
    assert "get the file again" in damaged(record, payload, shape=(6, 8))
    assert "cut off" in damaged(record, b"")


def rewritten(codebook: list[float], scale: list[float], codes: bytes) -> bytes:
    values = pack_array(np.float32(codebook)) + pack_array(np.float32(scale))
    return write_varint(len(codebook)) + values + codes


def test_lies_inside_an_encoded_tensor() -> None:
    codes = (np.arange(60) % 5).astype(np.uint16)
    good = Encoded(codes, np.arange(5, dtype=np.float32), np.ones(1, np.float32))
    record, _ = encode_tensor("w", good.decode(), good)
    coded = write_codes(codes, good.codebook)
    whole = rewritten([0, 1, 2, 3, 4], [1], coded)
    assert decode_tensor(record, memoryview(whole))[0].tobytes() == good.decode().tobytes()
    nan, most = float("nan"), 3e38
    assert "must be exactly 0" in damaged(record, rewritten([1, 1, 2, 3, 4], [1], coded))
    assert "not finite" in damaged(record, rewritten([0, 1, 2, 3, nan], [1], coded))
    assert "not finite" in damaged(record, rewritten([0, 1, 2, 3, 4], [np.inf], coded))
    assert "float32 ends at" in damaged(record, rewritten([0, 1, 2, 3, most], [2], coded))
    assert "get the file again" in damaged(record, whole + b"x")
    assert "coding 77 of its weights is unknown" in damaged(
        record, rewritten([0, 1, 2, 3, 4], [1], b"\x4d")
    )
    wide = Encoded(
        np.array([0, 300], np.uint16), np.arange(301, dtype=np.float32), np.ones(1, np.float32)
    )
    record, payload = encode_tensor("w", wide.decode(), wide)
    assert "code 300 in an index of 8 bits" in damaged(record, payload, wide=False)


def test_lies_of_gaps() -> None:
    codes = np.zeros(60, np.uint8)
    codes[[3, 40]] = 1
    gaps, values = to_gaps(codes, 5)
    streams = pack(gaps, 32), pack(values, 2)

    def told(width: int, entries: int, length: int) -> memoryview:
        head = bytes([GAPS, width]) + write_varint(entries) + write_varint(length)
        return memoryview(head + b"".join(streams))

    size = len(streams[0])
    assert read_codes(told(5, 3, size), (60,), 2).tolist() == codes.tolist()
    for width, entries, length, shape, message in (
        (9, 3, size, (60,), "gaps of 9 bits for 60 elements"),
        (5, 61, size, (60,), "61 gaps of 5 bits for 60 elements"),
        (5, 1 << 60, size, (60,), "for 60 elements"),
        (5, 3, 1 << 60, (60,), "cut off"),
        (5, 3, size, (40,), "an entry at 40 of a tensor of 40"),
        (5, 2, size, (60,), "get the file again"),
    ):
        with pytest.raises(ContainerError, match=message):
            read_codes(told(width, entries, length), shape, 2)


def test_negative_scales_are_kept() -> None:
    """Folding a batch norm with a negative gamma makes them; zero times them stays 0.0."""
    codes = np.array([[0, 1], [1, 0]], np.uint8)
    scale = np.array([-0.5, 2], np.float32)
    assert_same(
        np.array([[0, -1.5], [6, 0]], np.float32),
        Encoded(codes, np.array([0, 3], np.float32), scale, 0),
    )


def test_lies_about_plain_and_masked_tensors() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    record, payload = encode_tensor("w", values, None)
    assert "cut off: 28 bytes needed, 24 left" in damaged(record, payload, shape=(7,))
    assert "4 bytes more than they need" in damaged(record, payload, shape=(5,))
    assert "cut off: 48 bytes" in damaged(record, payload, dtype=np.dtype(np.int64))
    mask = np.array([True, False, True, False, False, False, False])
    record, payload = encode_tensor("w", mask.astype(np.float32), Masked(mask))
    assert payload[0] == 2  # kept weights
    assert "3 kept weights for 2 places" in damaged(record, b"\3" + payload[1:])
    assert "8 kept weights of 7" in damaged(record, b"\x08" + payload[1:])


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_records_or_an_error(names: bytes, columns: bytes) -> None:
    try:
        records = read_records(names, columns, 0)
    except ContainerError:
        return
    assert write_names(records) == names
    assert len(write_records(records)) == len(columns)


@given(st.data())
@settings(max_examples=100)
def test_any_damage_is_an_error_or_a_tensor(data: st.DataObject) -> None:
    record, payload = shared_record()
    raw = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        array, encoding = decode_tensor(record, memoryview(bytes(raw)))
    except ContainerError:
        return
    assert array.shape == record.shape
    assert encoding is not None
    assert np.array_equal(encoding.project(array), array)


@given(st.binary(max_size=80), st.sampled_from([(7,), (2, 3), ()]), st.integers(0, 9))
@settings(max_examples=100)
def test_any_bytes_are_a_tensor_or_an_error(data: bytes, shape: tuple[int, ...], form: int) -> None:
    records = (
        *(Record("w", PLAIN, shape, len(data), dtype.newbyteorder("=")) for dtype in DTYPES),
        Record("w", MASKED, shape, len(data)),
        Record("w", ENCODED, shape, len(data)),
        Record("w", ENCODED, shape, len(data), on_integers=True),
        Record("w", ENCODED, shape, len(data), wide=True, axis=0 if shape else None),
        Record("w", PLAIN, shape, len(data)),
    )
    try:
        array, _ = decode_tensor(records[form], memoryview(data))
    except ContainerError:
        return
    assert array.shape == shape
