"""One tensor there and back: every form bit for bit, every lie of a record refused."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.encoding import Encoded, Encoding, Masked, encoding_arrays, int8_codebook
from compress.errors import ContainerError, ExportError
from targets.formats.dc_record import (
    ENCODED,
    MASKED,
    MAX_ELEMENTS,
    MAX_NAME_BYTES,
    PLAIN,
    Record,
    read_record,
    write_record,
)
from targets.formats.dc_tensor import decode_tensor, encode_tensor

SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)


def there_and_back(
    array: NDArray[Any], encoding: Encoding | None
) -> tuple[NDArray[Any], Encoding | None]:
    record, payload = encode_tensor("layer.weight", array, encoding)
    assert encode_tensor("layer.weight", array, encoding) == (record, payload)
    read, end = read_record(memoryview(write_record(record)), 0)
    assert (read, end) == (record, len(write_record(record)))
    assert read.payload_bytes == len(payload)
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
@settings(max_examples=200)
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
    with pytest.raises(ExportError, match="names of 1024 bytes"):
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
    """The message for `record` changed, its checksum right."""
    lying = replace(record, checksum=zlib.crc32(payload), **changed)
    with pytest.raises(ContainerError) as caught:
        decode_tensor(lying, memoryview(payload))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flipped_byte_is_a_wrong_checksum() -> None:
    record, payload = shared_record()
    for place in range(len(payload)):
        flipped = bytearray(payload)
        flipped[place] ^= 1
        with pytest.raises(ContainerError, match="'w' is damaged: its checksum differs"):
            decode_tensor(record, memoryview(bytes(flipped)))


def test_lies_about_an_encoded_tensor() -> None:
    record, payload = shared_record()
    width, entries, axis, size = record.numbers
    assert "gaps of 9 bits" in damaged(record, payload, numbers=(9, entries, axis, size))
    assert "codebook of 0 entries" in damaged(record, payload, numbers=(width, entries, axis, 0))
    assert "codebook of 65537" in damaged(record, payload, numbers=(width, entries, axis, 65537))
    assert "scale on axis 2" in damaged(record, payload, numbers=(width, entries, 3, size))
    assert "scales take 40 bytes" in damaged(record, payload, numbers=(width, entries, 2, size))
    assert "scales take 4 bytes" in damaged(record, payload, numbers=(width, entries, 0, size))
    assert "codebook take 24" in damaged(record, payload, numbers=(width, entries, axis, 6))
    assert "codebook take 5" in damaged(record, payload, kind=1)
    assert "codebook take 0" in damaged(record, payload, kind=2)
    assert "damaged" in damaged(record, payload, numbers=(width, entries - 1, axis, size))
    assert "damaged" in damaged(record, payload, shape=(6, 8), numbers=(width, entries, axis, size))


def test_lies_inside_an_encoded_tensor() -> None:
    codes = (np.arange(60) % 5).astype(np.uint16)
    book = np.arange(5, dtype=np.float32)
    good = Encoded(codes, book, np.ones(1, np.float32))
    record, payload = encode_tensor("w", good.decode(), good)
    first = sum(record.sections[:2])

    def with_book(values: list[float]) -> bytes:
        raw = np.array(values, "<f4").tobytes()
        return payload[:first] + raw + payload[first + len(raw) :]

    assert "must be exactly 0" in damaged(record, with_book([1, 1, 2, 3, 4]))
    assert "not finite" in damaged(record, with_book([0, 1, 2, 3, float("nan")]))
    assert "not finite" in damaged(record, payload[:-4] + np.array(np.inf, "<f4").tobytes())
    full = Encoded(codes.astype(np.uint8), int8_codebook(), np.ones(1, np.float32))
    record, payload = encode_tensor("w", full.decode(), full)
    assert "of 255 entries" in damaged(record, payload, numbers=(*record.numbers[:3], 255))
    wide = Encoded(
        np.array([0, 300], np.uint16), np.arange(301, dtype=np.float32), np.ones(1, np.float32)
    )
    record, payload = encode_tensor("w", wide.decode(), wide)
    assert "code 300 in an index of 8 bits" in damaged(record, payload, kind=0)


def test_negative_scales_are_kept() -> None:
    """Folding a batch norm with a negative gamma makes them; zero times them stays 0.0."""
    codes = np.array([[0, 1], [1, 0]], np.uint8)
    scale = np.array([-0.5, 2], np.float32)
    assert_same(
        np.array([[0, -1.5], [6, 0]], np.float32),
        Encoded(codes, np.array([0, 3], np.float32), scale, 0),
    )


def test_lies_about_plain_and_masked_tensors() -> None:
    record, payload = encode_tensor("w", np.ones((2, 3), np.float32), None)
    assert "values take 28 bytes, found 24" in damaged(record, payload, shape=(7,))
    assert "values take 48 bytes, found 24" in damaged(record, payload, kind=1)
    mask = np.array([True, False, True, False, False, False, False])
    record, payload = encode_tensor("w", mask.astype(np.float32), Masked(mask))
    short = damaged(record, payload[:-4], sections=(*record.sections[:2], 4))
    assert "kept weights take 8 bytes, found 4" in short
    assert "an entry at 2 of a tensor of 2 elements" in damaged(record, payload, shape=(2,))


def test_a_record_is_refused_before_memory_is_taken() -> None:
    def refusal(record: Record) -> str:
        with pytest.raises(ContainerError) as caught:
            read_record(memoryview(write_record(record)), 0)
        return str(caught.value)

    record, _ = shared_record()
    assert "at most 8" in refusal(replace(record, shape=(1,) * 9))
    assert "at most 4" in refusal(replace(record, numbers=(1,) * 5))
    assert "claims shape" in refusal(replace(record, shape=(MAX_ELEMENTS + 1,)))
    assert "claims shape" in refusal(replace(record, shape=(1 << 20, 1 << 20)))
    assert "claims shape" in refusal(replace(record, shape=(0, 1 << 62)))
    assert "61 entries for 60 elements" in refusal(replace(record, numbers=(1, 61, 0, 5)))
    assert "form 3" in refusal(replace(record, form=3))
    assert "kind 6" in refusal(replace(record, kind=6))
    assert "kind 5" in refusal(replace(record, form=PLAIN, kind=5, numbers=(), sections=(1,)))
    assert "kind 1" in refusal(
        replace(record, form=MASKED, kind=1, numbers=(1, 1), sections=(1, 1, 1))
    )
    assert "3 sections" in refusal(replace(record, form=ENCODED, sections=(1, 1, 1)))
    assert "a name of 1025 bytes" in refusal(replace(record, name="w" * (MAX_NAME_BYTES + 1)))


def test_a_record_cut_off_anywhere_or_not_utf8() -> None:
    record, _ = shared_record()
    whole = write_record(record)
    for length in range(len(whole)):
        with pytest.raises(ContainerError):
            read_record(memoryview(whole[:length]), 0)
    wrong = whole.replace(b"w", b"\xff")
    with pytest.raises(ContainerError, match="not UTF-8"):
        read_record(memoryview(wrong), 0)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_an_error(data: bytes) -> None:
    try:
        record, end = read_record(memoryview(data), 0)
    except ContainerError:
        return
    assert data[:end] == write_record(record)


@given(st.data())
@settings(max_examples=300)
def test_any_damage_under_a_right_checksum_is_an_error_or_a_tensor(data: st.DataObject) -> None:
    record, payload = shared_record()
    raw = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    lying = replace(record, checksum=zlib.crc32(bytes(raw)))
    try:
        array, encoding = decode_tensor(lying, memoryview(bytes(raw)))
    except ContainerError:
        return
    assert array.shape == record.shape
    assert encoding is not None
    assert np.array_equal(encoding.project(array), array)
