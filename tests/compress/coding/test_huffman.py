from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.coding import compiled, huffman
from compress.coding.bits import read_varint, write_varint
from compress.coding.huffman import canonical_codes, code_lengths, decode, encode, pack, unpack
from compress.errors import ContainerError, RangeError

LANE = 4096


def bits_of(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


def skewed(count: int, alphabet: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    draws = np.random.default_rng(seed).standard_normal(count) * alphabet / 11 + alphabet / 2
    return np.clip(np.rint(draws), 0, alphabet - 1).astype(np.uint8)


def lengths_for(symbols: NDArray[np.uint8], alphabet: int) -> NDArray[np.uint8]:
    return code_lengths(np.bincount(symbols, minlength=alphabet))


def read_slowly(text: str, lengths: NDArray[np.uint8], count: int) -> tuple[list[int], int]:
    """The format's own words: one word after the other. (symbols, bits read)"""
    codes = canonical_codes(lengths)
    words = {f"{codes[s]:0{lengths[s]}b}": s for s in np.flatnonzero(lengths).tolist()}
    symbols: list[int] = []
    start = end = 0
    while len(symbols) < count:
        end += 1
        if text[start:end] in words:
            symbols.append(words[text[start:end]])
            start = end
    return symbols, end


def test_canonical_code_words() -> None:
    # RFC 1951, section 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) of A to H.
    codes = canonical_codes(np.array([3, 3, 3, 3, 3, 2, 4, 4], np.uint8))
    assert codes.tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]
    assert canonical_codes(np.array([1, 0, 2, 2], np.uint8)).tolist() == [0, 0, 0b10, 0b11]


def test_golden_stream() -> None:
    symbols = np.array([0, 0, 0, 0, 1, 1, 2, 3], np.uint8)
    # Table: 0 | 1 shorter, 1 longer twice, same. Words: 0 0 0 0 10 10 110 111.
    table = "0" + "1011" + "1001" + "1001" + "0" + "00"
    assert bits_of(pack(symbols, 4)) == table + "0000" + "1010" + "110111" + "00"
    assert pack(symbols, 4) == bytes.fromhex("5cc80adc")
    assert unpack(bytes.fromhex("5cc80adc"), 8, 4).tolist() == symbols.tolist()


def test_golden_lanes() -> None:
    """Other bytes here are another format: bump the container's version."""
    numbers = np.arange(20_000)
    symbols = (numbers * numbers // 7 % 64 & numbers % 61).astype(np.uint8)
    data = pack(symbols, 64)
    assert len(data) == 10766
    assert (
        hashlib.sha256(data).hexdigest()
        == "22f480e7d6700670b19276b4755c6dedced84f173fb5d33337592090883cb4dd"
    )


def test_words_that_fill_the_last_byte() -> None:
    symbols = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.uint8)
    assert encode(symbols, np.array([1, 1], np.uint8)) == bytes([0b01101001])
    assert decode(bytes([0b01101001]), np.array([1, 1], np.uint8), 8).tolist() == symbols.tolist()


def test_no_symbol_takes_no_byte() -> None:
    assert pack(np.array([], np.uint8), 256) == b""
    assert unpack(b"", 0, 256).size == 0
    with pytest.raises(ContainerError):
        unpack(b"\x00", 0, 256)


@pytest.mark.parametrize(("alphabet", "size"), [(1, 1), (2, 1), (128, 1), (129, 2), (65536, 3)])
def test_one_symbol_takes_no_bits_each(alphabet: int, size: int) -> None:
    symbols = np.full(1_000_000, alphabet - 1, np.uint16)
    data = pack(symbols, alphabet)
    assert len(data) == size
    assert np.array_equal(unpack(data, symbols.size, alphabet), symbols)
    with pytest.raises(ContainerError):
        unpack(data + b"\x00", symbols.size, alphabet)


def test_zero_is_a_symbol_like_any_other() -> None:
    for symbols in ([0], [0, 0], [0, 1], [1, 0]):
        data = pack(np.array(symbols, np.uint8), 2)
        assert unpack(data, len(symbols), 2).tolist() == symbols


@given(
    st.integers(1, 300).flatmap(
        lambda a: st.tuples(st.just(a), st.lists(st.integers(0, a - 1), max_size=400))
    )
)
def test_round_trip(case: tuple[int, list[int]]) -> None:
    alphabet, symbols = case
    data = pack(np.array(symbols, np.uint16), alphabet)
    back = unpack(memoryview(data), len(symbols), alphabet)
    assert back.dtype == (np.uint8 if alphabet <= 256 else np.uint16)
    assert back.tolist() == symbols


@pytest.mark.parametrize(
    "count",
    [LANE - 1, LANE, LANE + 1, 2 * LANE, 2 * LANE + 1, 5 * LANE - 3, 40 * LANE + 17, 1_000_003],
)
@pytest.mark.parametrize("alphabet", [2, 64])
def test_round_trip_of_many_lanes(count: int, alphabet: int) -> None:
    symbols = skewed(count, alphabet, count)
    data = pack(symbols, alphabet)
    assert np.array_equal(unpack(data, count, alphabet), symbols)
    assert pack(symbols.astype(np.int64), alphabet) == data


def test_lanes_are_as_documented() -> None:
    symbols = skewed(3 * LANE - 1)
    lengths = lengths_for(symbols, 64)
    body = encode(symbols, lengths)
    sizes = [int(lengths[symbols[lane::3]].sum()) for lane in range(3)]
    least, width = min(sizes[:2]), abs(sizes[0] - sizes[1]).bit_length()
    start = write_varint(least) + bytes([width])
    assert body.startswith(start)
    directory = len(start) + (2 * width + 7) // 8
    text = bits_of(body[directory:])
    for lane in range(3):
        expected = symbols[lane::3].tolist()
        found, used = read_slowly(text, lengths, len(expected))
        assert (found, used) == (expected, sizes[lane])
        text = text[used:]
    assert set(text) <= {"0"}
    assert len(text) < 8


def test_sixteen_bit_alphabet_and_fifteen_bit_words() -> None:
    symbols = np.arange(0, 65536, 2, dtype=np.uint16)
    assert np.array_equal(unpack(pack(symbols, 65536), symbols.size, 65536), symbols)
    counts = (2 ** np.arange(17)).astype(np.int64)
    symbols = np.repeat(np.arange(17, dtype=np.uint16), counts)
    assert code_lengths(counts).max() == 15
    assert np.array_equal(unpack(pack(symbols, 17), symbols.size, 17), symbols)


def test_size_is_near_the_entropy() -> None:
    symbols = skewed(300_000)
    shares = np.bincount(symbols) / symbols.size
    shares = shares[shares > 0]
    entropy_bytes = -(shares * np.log2(shares)).sum() * symbols.size / 8
    assert entropy_bytes < len(pack(symbols, 64)) < 1.01 * entropy_bytes
    estimate = huffman.packed_bytes(np.bincount(symbols, minlength=64))
    assert 0 <= len(pack(symbols, 64)) - estimate < 200
    assert huffman.packed_bytes(np.zeros(4, np.int64)) == 0


def test_table_of_a_small_alphabet_is_small() -> None:
    symbols = skewed(30_000, 32)
    assert len(pack(symbols, 32)) - len(encode(symbols, lengths_for(symbols, 32))) <= 12


def test_memory_of_decoding_is_linear_and_modest() -> None:
    symbols = skewed(4_000_000)
    data = pack(symbols, 64)
    tracemalloc.start()
    unpack(data, symbols.size, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < symbols.size + 1.3 * len(data) + 2_000_000


# Hostile and damaged streams.


def test_every_truncation_and_any_tail_is_refused() -> None:
    for count in (50, 3 * LANE):
        data = pack(skewed(count), 64)
        cuts = range(len(data)) if count == 50 else (*range(60), *range(60, len(data), 97))
        for cut in cuts:
            with pytest.raises(ContainerError):
                unpack(data[:cut], count, 64)
        for tail in (b"\x00", b"\xff", bytes(100)):
            with pytest.raises(ContainerError):
                unpack(data + tail, count, 64)


def test_another_count_is_refused_before_anything_is_allocated() -> None:
    data = pack(skewed(2 * LANE), 64)
    for count in (2 * LANE - 100, 2 * LANE + 100, 1 << 20, 1 << 40, 1 << 62):
        tracemalloc.start()
        with pytest.raises(ContainerError):
            unpack(data, count, 64)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000
    with pytest.raises(RangeError):
        unpack(data, -1, 64)


def test_dirty_padding_is_refused() -> None:
    data = bytes.fromhex("5cc80adc")
    for place in (1, 3):  # the ends of the table and of the words
        dirty = bytearray(data)
        dirty[place] |= 1
        with pytest.raises(ContainerError, match="padding"):
            unpack(bytes(dirty), 8, 4)


def test_lanes_that_lie_are_refused() -> None:
    symbols = skewed(4 * LANE)
    lengths = lengths_for(symbols, 64)
    body = encode(symbols, lengths)
    _, place_of_width = read_varint(body, 0)
    directory = place_of_width + 1 + (3 * body[place_of_width] + 7) // 8
    for place in range(directory):
        for bit in range(8):
            lie = bytearray(body)
            lie[place] ^= 1 << bit
            with pytest.raises(ContainerError):
                decode(bytes(lie), lengths, symbols.size)


@pytest.mark.parametrize(
    ("lengths", "what"),
    [
        ([1, 1, 1], "room"),
        ([1, 2, 2, 15], "room"),
        ([1, 2], "no word"),
        ([2], "no word"),
        ([16, 1], "15 bits"),
        ([255, 255], "15 bits"),
    ],
)
def test_lengths_that_are_no_code(lengths: list[int], what: str) -> None:
    array = np.array(lengths, np.uint8)
    with pytest.raises(ContainerError, match=what):
        decode(b"\x00", array, 1)
    with pytest.raises(RangeError, match=what):
        canonical_codes(array)


@pytest.mark.parametrize(
    ("bits", "alphabet", "what"),
    [
        ("1" + "11", 3, "symbol 3"),  # one symbol, which is not in the alphabet
        ("0" + "101" + "1" + "100" + "1" + "101" + "1", 4, "room"),  # 1, 2, 1 bits
        ("0" + "101" + "011", 4, "word of -1 bits"),
        ("0" + "100" + "0001111", 4, "word of 17 bits"),
        ("0" + "11" + "00101", 4, "above 4"),  # a run of 5 in an alphabet of 4
        ("0" + "11" + "00100" + "0", 4, "more than the 4 symbols"),
        ("0" + "0" + "0" + "0" + "0", 3, "more than the 3 symbols"),
        ("0" + "0", 4, "damaged|cut off"),
        ("", 4, "cut off"),
    ],
)
def test_hostile_tables(bits: str, alphabet: int, what: str) -> None:
    data = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    with pytest.raises(ContainerError, match=what):
        unpack(data, 5, alphabet)


@given(st.binary(max_size=300), st.integers(0, 3 * LANE), st.integers(1, 300))
def test_any_bytes_give_symbols_or_one_error(data: bytes, count: int, alphabet: int) -> None:
    try:
        symbols = unpack(data, count, alphabet)
    except ContainerError:
        return
    assert symbols.size == count
    assert count == 0 or symbols.max() < alphabet


@given(st.integers(0, 10**9), st.integers(0, 7), st.integers(0, 2))
def test_a_flipped_bit_gives_symbols_or_one_error(place: int, bit: int, kind: int) -> None:
    count = (100, LANE + 1, 3 * LANE)[kind]
    data = bytearray(pack(skewed(count), 64))
    data[place % len(data)] ^= 1 << bit
    try:
        symbols = unpack(bytes(data), count, 64)
    except ContainerError:
        return
    assert symbols.size == count
    assert symbols.max() < 64


def test_arguments_out_of_range() -> None:
    two = np.array([1, 1], np.uint8)
    with pytest.raises(RangeError, match="0 to 1"):
        encode(np.array([2], np.uint8), two)
    with pytest.raises(RangeError, match="without a code word"):
        encode(np.array([1], np.uint8), np.array([1, 0, 1], np.uint8))
    with pytest.raises(RangeError, match="one axis"):
        pack(np.zeros((2, 2), np.uint8), 4)
    for alphabet in (0, 65537):
        with pytest.raises(RangeError, match="alphabet"):
            pack(np.array([0], np.uint8), alphabet)
        with pytest.raises(RangeError, match="alphabet"):
            unpack(b"\x00", 1, alphabet)
    with pytest.raises(RangeError):
        pack(np.array([-1]), 4)


# The compiled loops.


@pytest.mark.parametrize("count", [1, 3, 4, 5, LANE, LANE + 1, 3 * LANE - 1, 8 * LANE + 5])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64])
def test_the_compiled_loops_give_the_same_bytes(
    count: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    symbols = skewed(count, 64, count).astype(kind)
    found: list[bytes] = []
    for quick in (False, True):
        monkeypatch.setattr(compiled, "worth_it", lambda _, quick=quick: quick)
        found.append(pack(symbols, 64))
        assert np.array_equal(unpack(found[-1], count, 64), symbols)
    assert found[0] == found[1]


def test_the_compiled_loops_refuse_lanes_that_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    monkeypatch.setattr(compiled, "worth_it", lambda _: True)
    symbols = skewed(9 * LANE)
    body = encode(symbols, lengths_for(symbols, 64))
    _, place_of_width = read_varint(body, 0)
    for place in range(place_of_width + 1 + body[place_of_width]):  # 8 lanes' sizes
        lie = bytearray(body)
        lie[place] ^= 1
        with pytest.raises(ContainerError):
            decode(bytes(lie), lengths_for(symbols, 64), symbols.size)
