from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.coding import compiled, plane_loops
from compress.coding.huffman import canonical_codes, code_lengths, decode, encode, pack, unpack
from compress.coding.planes import read_planes
from compress.errors import ContainerError

BLOCK = 1 << 16


def skewed(count: int, alphabet: int, seed: int = 0) -> NDArray[Any]:
    draws = np.random.default_rng(seed).geometric(0.3, count)
    return np.minimum(draws - 1, alphabet - 1).astype(np.uint16 if alphabet > 256 else np.uint8)


def lengths_of(symbols: NDArray[Any], alphabet: int) -> NDArray[np.uint8]:
    return code_lengths(np.bincount(symbols, minlength=alphabet))


def written_slowly(symbols: NDArray[Any], lengths: NDArray[np.uint8]) -> str:
    """The format's own words, block by block and length by length."""
    codes = canonical_codes(lengths)
    words = [f"{codes[s]:0{lengths[s]}b}" for s in symbols.tolist()]
    text = ""
    for low in range(0, len(words), BLOCK):
        before = 0
        for length in np.unique(lengths[lengths > 0]).tolist():
            text += "".join(w[before:length] for w in words[low : low + BLOCK] if len(w) > before)
            before = length
    return text


def test_known_bits() -> None:
    lengths = np.array([1, 2, 3, 3], np.uint8)  # 0, 10, 110, 111
    symbols = np.array([0, 2, 1, 3, 0, 1], np.uint8)
    # First bits 0 1 1 1 0 1; second bits of 2, 1, 3, 1; third bits of 2, 3.
    data = encode(symbols, lengths, planes=True)
    assert f"{int.from_bytes(data, 'big'):016b}" == "011101" + "1010" + "01" + "0000"
    assert decode(data, lengths, 6, planes=True).tolist() == symbols.tolist()
    with pytest.raises(ContainerError, match="padding"):
        decode(bytes([data[0], data[1] | 1]), lengths, 6, planes=True)


@pytest.mark.parametrize("alphabet", [2, 5, 256, 257, 3000])
@pytest.mark.parametrize("count", [1, 7, 8, BLOCK, BLOCK + 1, 2 * BLOCK + 9])
def test_the_format(count: int, alphabet: int) -> None:
    symbols = skewed(count, alphabet)
    symbols[0], symbols[-1] = 0, alphabet - 1
    lengths = lengths_of(symbols, alphabet)
    data = pack(symbols, alphabet, planes=True)
    if count > 1:
        text = written_slowly(symbols, lengths)
        whole = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        start = 8 * len(data) - -(-len(text) // 8) * 8
        assert whole[start:].rstrip("0") == text.rstrip("0")
    found = unpack(data, count, alphabet, planes=True)
    assert found.dtype == (np.uint8 if alphabet <= 256 else np.uint16)
    assert np.array_equal(found, symbols)


@given(st.lists(st.integers(0, 40), max_size=300))
def test_any_symbols(values: list[int]) -> None:
    symbols = np.array(values, np.uint8)
    assert np.array_equal(unpack(pack(symbols, 41, True), symbols.size, 41, True), symbols)


def test_as_many_bytes_as_one_lane() -> None:
    symbols = skewed(4096, 30)
    assert len(pack(symbols, 30, planes=True)) == len(pack(symbols, 30))


def test_the_loop_does_as_the_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain Python here, so that it holds without numba, too."""
    monkeypatch.setattr(compiled, "worth_it", lambda _: True)
    monkeypatch.setattr(compiled, "kernel", lambda name: getattr(plane_loops, name))
    for symbols, alphabet in ((skewed(3000, 300), 300), (skewed(BLOCK + 50, 3), 3)):
        with np.errstate(over="ignore"):
            data = pack(symbols, alphabet, planes=True)
            assert np.array_equal(unpack(data, symbols.size, alphabet, planes=True), symbols)
            with pytest.raises(ContainerError, match="cut off"):
                unpack(data[:-9], symbols.size, alphabet, planes=True)


@pytest.mark.skipif(not compiled.worth_it(1 << 20), reason="numba is not installed")
def test_compiled() -> None:
    symbols = skewed(3 * BLOCK, 700)
    data = pack(symbols, 700, planes=True)
    assert np.array_equal(unpack(data, symbols.size, 700, planes=True), symbols)


def test_damage() -> None:
    symbols = skewed(5000, 20)
    data = pack(symbols, 20, planes=True)
    for bad, message in (
        (data[:-1], "cut off"),
        (data[:40], "cut off"),
        (data + b"\0", "bit stream is damaged"),
    ):
        with pytest.raises(ContainerError, match=message) as caught:
            unpack(bad, symbols.size, 20, planes=True)
        assert "\n" not in str(caught.value)
    for place in range(20, len(data), 97):  # other symbols, or one line
        other = bytearray(data)
        other[place] ^= 8
        try:
            found = unpack(bytes(other), symbols.size, 20, planes=True)
        except ContainerError:
            continue
        assert found.size == symbols.size
        assert not np.array_equal(found, symbols)


def test_a_hostile_count_takes_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(ContainerError, match="cut off"):
        read_planes(bytes(100), np.array([1, 2, 2], np.uint8), 1 << 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 16
