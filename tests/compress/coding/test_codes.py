from __future__ import annotations

import hashlib
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.coding import compiled
from compress.coding.bits import BitReader, BitWriter
from compress.coding.code_header import read_header, write_header
from compress.coding.code_plan import plan
from compress.coding.codes import code_rates, pack_codes, packed_codes_bytes, unpack_codes
from compress.coding.layouts import Blocks, Flat, Planes
from compress.errors import ContainerError, RangeError

Codes = NDArray[np.uint16]


@pytest.fixture(params=["arrays", "compiled"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of coding, whatever the sizes."""
    if request.param == "compiled":
        pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    monkeypatch.setattr(compiled, "worth_it", lambda _: request.param == "compiled")


def codebook(alphabet: int) -> NDArray[np.int64]:
    """Code 0 is zero, the lower half of the others below it, the upper half above."""
    below = (alphabet - 1) // 2
    return np.concatenate([[0], np.arange(-below, 0), np.arange(1, alphabet - below)])


def to_codes(values: NDArray[np.float64], alphabet: int) -> Codes:
    """Values in units of a step, rounded, as codes of `codebook`."""
    below = (alphabet - 1) // 2
    ranks = np.clip(np.rint(values), -below, alphabet - 1 - below).astype(np.int64)
    return np.where(ranks < 0, ranks + below + 1, np.where(ranks > 0, ranks + below, 0)).astype(
        np.uint16
    )


def noise(shape: tuple[int, ...], alphabet: int, seed: int = 0) -> Codes:
    values = np.random.default_rng(seed).standard_normal(shape)
    return to_codes(values * alphabet / 8, alphabet)


def smooth(kernels: int, alphabet: int, seed: int = 0) -> Codes:
    """Kernels whose places resemble each other."""
    draws = np.random.default_rng(seed)
    values = draws.standard_normal((kernels, 4, 1, 1)) + 0.3 * draws.standard_normal(
        (kernels, 4, 3, 3)
    )
    return to_codes(values * alphabet / 8, alphabet)


def entropy_bytes(codes: Codes) -> float:
    shares = np.bincount(codes.reshape(-1)) / codes.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum()) * codes.size / 8


def test_no_code_takes_no_byte() -> None:
    for shape in ((0,), (3, 0), (0, 4, 3, 3)):
        assert pack_codes(np.zeros(shape, np.uint8), 16) == b""
        assert unpack_codes(b"", shape, 16).shape == shape
        with pytest.raises(ContainerError):
            unpack_codes(b"\x00", shape, 16)


@pytest.mark.parametrize(("alphabet", "code"), [(1, 0), (2, 0), (2, 1), (256, 255), (4096, 77)])
def test_one_code_alone_takes_a_few_bytes(alphabet: int, code: int) -> None:
    codes = np.full((100, 50, 3), code, np.uint16)
    data = pack_codes(codes, alphabet)
    assert len(data) <= 7
    assert np.array_equal(unpack_codes(data, codes.shape, alphabet), codes)
    with pytest.raises(ContainerError):
        unpack_codes(data + b"\x00", codes.shape, alphabet)


def read_slowly(data: bytes, count: int) -> list[int]:
    """The format's own words, for four codes that all occur, coded Flat in one lane."""
    reader = BitReader(data)
    assert reader.read(1) == 1
    assert reader.read(1) == 0
    negatives = reader.read_gamma(4) - 1
    zeros, decay, strength = reader.read(4), reader.read(4), 256 * 4 ** reader.read(2)
    assert reader.read(2) == 0
    assert reader.read_gamma(count) == 1
    body = data[reader.end() :]
    weight, falling = 1 << 16, []
    for _ in range(4):
        falling.append(weight)
        weight = max(64, weight - (weight * decay >> 6))
    ranks = [0] + [negatives - c + 1 for c in range(1, 4) if c <= negatives]
    ranks += [c - negatives for c in range(1, 4) if c > negatives]
    prior = [falling[max(rank - 1, 0)] for rank in ranks]
    if zeros:
        prior[0] = sum(prior[1:]) * zeros // (16 - zeros)
    prior = [1 + weight * 128 // sum(prior) for weight in prior]
    state = int.from_bytes(body[:4], "little")
    words = [int.from_bytes(body[at : at + 2], "little") for at in range(4, len(body), 2)]
    counts, symbols, stop = [0] * 4, [], 0
    frequencies: list[int] = []
    while len(symbols) < count:
        if len(symbols) == stop:
            frequencies = frequencies_of([symbols.count(c) for c in range(4)], prior, strength)
            stop += max(32, stop // 4)
        slot, symbol = state % 2**15, 0
        while slot >= sum(frequencies[: symbol + 1]):
            symbol += 1
        state = frequencies[symbol] * (state >> 15) + slot - sum(frequencies[:symbol])
        if state < 2**16:
            state = state << 16 | words.pop(0)
        symbols.append(symbol)
        counts[symbol] += 1
    assert (state, words) == (2**16, [])
    return symbols


def frequencies_of(counts: list[int], prior: list[int], strength: int) -> list[int]:
    common = [64 * n + p for n, p in zip(counts, prior, strict=True)]
    rounds = min(8, max(1, (512 * 4 // (1 + sum(counts))).bit_length()))
    near = [4 * n for n in counts]
    for _ in range(rounds):
        near = [
            4 * near[0],
            near[1] + 2 * near[1] + near[2],
            near[1] + 2 * near[2] + near[3],
            near[2] + 2 * near[3] + near[3],
        ]
    parent = [
        (n << 16) + 16 * 4**rounds * ((c << 16) // sum(common))
        for n, c in zip(near, common, strict=True)
    ]
    share = [t // ((sum(parent) >> 24) + 1) for t in parent]
    weights = [(n << 16) + (u * strength >> 8) for n, u in zip(counts, share, strict=True)]
    found = [1 + w * (2**15 - 4) // sum(weights) for w in weights]
    found[weights.index(max(weights))] += 2**15 - sum(found)
    return found


def test_the_stream_is_as_documented() -> None:
    codes = (np.arange(500) ** 2 // 3 % 7 % 4).astype(np.uint8)
    data = pack_codes(codes, 4)
    assert read_slowly(data, 500) == codes.tolist()


# Other bytes here are another format: bump the container's version.
GOLDEN = {
    "flat": "9e7a214fd1c91da9",
    "blocks": "319a06c9f596dd7e",
    "planes": "dfee28526789a4c2",
}


def golden_codes(kind: str) -> Codes:
    """The same on every machine: no random numbers of a library."""
    numbers = np.arange(36 * 40 * 9, dtype=np.int64)
    mixed = (numbers * 2654435761 % (1 << 32) >> 8) * 40503 % 65521
    if kind == "flat":
        return (mixed % 23 % 15 % 11).astype(np.uint16)
    if kind == "blocks":
        rows = numbers // 360
        return (mixed % (2 + rows % 9)).astype(np.uint16).reshape(36, 360)
    kernels = (numbers // 9 * 48271 % 65521) % 13
    return (kernels + mixed % 3).astype(np.uint16).reshape(36, 40, 3, 3)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("kind", "layout"), [("flat", Flat), ("blocks", Blocks), ("planes", Planes)]
)
def test_golden_bytes(kind: str, layout: type) -> None:
    codes = golden_codes(kind)
    data = pack_codes(codes, 16)
    assert isinstance(read_header(data, codes.shape, 16)[0].layout, layout)
    assert hashlib.sha256(data).hexdigest()[:16] == GOLDEN[kind]
    assert np.array_equal(unpack_codes(data, codes.shape, 16), codes)


@given(
    st.integers(1, 40).flatmap(
        lambda a: st.tuples(
            st.just(a),
            st.lists(st.integers(0, a - 1), max_size=300),
            st.sampled_from([(-1,), (1, -1), (-1, 1), (2, -1), (3, -1), (2, 1, -1), (4, -1, 3, 3)]),
        )
    )
)
@settings(max_examples=60)
def test_round_trip(case: tuple[int, list[int], tuple[int, ...]]) -> None:
    alphabet, listed, axes = case
    size = -math.prod(axes)
    codes = np.array(listed[: len(listed) // size * size], np.uint16).reshape(axes)
    data = pack_codes(codes, alphabet)
    back = unpack_codes(memoryview(data), codes.shape, alphabet)
    assert back.dtype == np.uint8
    assert np.array_equal(back, codes)


@pytest.mark.parametrize(
    "shape",
    [
        (1,),
        (70000,),
        (90, 257),
        (24, 16, 3, 3),
        (96, 1, 3, 3),
        (40, 3, 7, 7),
        (16, 9, 5),
        (2, 3, 4, 4, 4),
    ],
)
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("alphabet", [2, 40, 300])
def test_round_trip_of_shapes(shape: tuple[int, ...], alphabet: int) -> None:
    codes = noise(shape, alphabet)
    data = pack_codes(codes, alphabet, codebook(alphabet))
    back = unpack_codes(data, shape, alphabet)
    assert back.dtype == (np.uint8 if alphabet <= 256 else np.uint16)
    assert np.array_equal(back, codes)


def test_the_compiled_loops_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    for codes in (noise((30001,), 64), noise((100, 200), 16), smooth(100, 32)):
        found: list[bytes] = []
        for quick in (False, True):
            monkeypatch.setattr(compiled, "worth_it", lambda _, quick=quick: quick)
            found.append(pack_codes(codes, 64))
        assert found[0] == found[1]


def test_types_of_codes_do_not_matter() -> None:
    codes = noise((50, 40), 16)
    assert pack_codes(codes.astype(np.int64), 16) == pack_codes(codes.astype(np.uint8), 16)
    assert pack_codes(np.asfortranarray(codes), 16) == pack_codes(codes, 16)


def test_order_zero_is_near_the_entropy() -> None:
    codes = noise((400_000,), 64)
    assert entropy_bytes(codes) < len(pack_codes(codes, 64)) < 1.003 * entropy_bytes(codes)


def test_neighbours_in_kernels_save_bytes() -> None:
    codes = smooth(1000, 32)
    data = pack_codes(codes, 32, codebook(32))
    assert isinstance(read_header(data, codes.shape, 32)[0].layout, Planes)
    assert len(data) < 0.8 * entropy_bytes(codes)


def test_rows_and_columns_of_their_own_width_save_bytes() -> None:
    draws = np.random.default_rng(3)
    widths = np.exp(draws.standard_normal((256, 1))) * np.exp(draws.standard_normal((1, 256)))
    codes = to_codes(draws.standard_normal((256, 256)) * widths * 2, 64)
    data = pack_codes(codes, 64, codebook(64))
    assert isinstance(read_header(data, codes.shape, 64)[0].layout, Blocks)
    assert len(data) < 0.9 * entropy_bytes(codes)


def test_a_small_tensor_takes_little_more_than_its_entropy() -> None:
    codes = noise((32, 1, 3, 3), 16)
    assert len(pack_codes(codes, 16, codebook(16))) < entropy_bytes(codes) + 12


def test_wrapped_codes_are_as_small_as_rising_ones() -> None:
    ranks = np.rint(np.random.default_rng(5).standard_normal((64, 300)) * 9).astype(np.int8)
    wrapped = ranks.view(np.uint8)
    plain = np.where(ranks < 0, ranks.astype(np.int64) + 128, ranks.astype(np.int64) + 127)
    plain = np.where(ranks == 0, 0, plain).astype(np.uint8)
    grid = np.arange(256, dtype=np.uint8).view(np.int8)
    assert abs(len(pack_codes(wrapped, 256, grid)) - len(pack_codes(plain, 256))) <= 20
    assert abs(len(pack_codes(wrapped, 256)) - len(pack_codes(wrapped, 256, grid))) <= 20


def test_sizes_without_writing() -> None:
    for codes in (noise((300, 200), 16), smooth(200, 32), noise((288,), 16), np.zeros(9, np.uint8)):
        size = len(pack_codes(codes, 64))
        assert abs(packed_codes_bytes(codes, 64) - size) <= 0.004 * size + 4
    assert packed_codes_bytes(np.zeros(0, np.uint8), 64) == 0


def test_rates_add_up_to_the_size() -> None:
    for codes in (noise((300, 200), 16), smooth(300, 32)):
        rates = code_rates(codes, 40)
        assert rates.contexts.shape == codes.shape
        assert rates.bits.shape[1] == 40
        total = float(rates.bits[rates.contexts, codes].sum()) / 8
        assert 0.9 * len(pack_codes(codes, 40)) < total < len(pack_codes(codes, 40))
        # Each context's words fill the room there is.
        assert np.all(np.exp2(-rates.bits.astype(np.float64)).sum(axis=1) < 1.001)
    assert code_rates(np.full(5, 3), 4).bits[0].tolist() == [17, 17, 17, 0]
    assert code_rates(np.zeros((2, 0), np.uint8), 4).contexts.shape == (2, 0)


def test_headers_come_back() -> None:
    for codes in (noise((300, 200), 64), smooth(300, 32), noise((777,), 16)):
        header = plan(codes, 70, None).header
        data = write_header(header, 70)
        found, offset = read_header(data + b"body", codes.shape, 70)
        assert offset == len(data)
        assert found.layout == header.layout
        assert np.array_equal(found.used, header.used)
        assert found[1:6] == header[1:6]
        assert found.lanes == header.lanes


def test_memory_of_decoding_is_modest() -> None:
    codes = noise((1_000_000,), 16).astype(np.uint8)
    data = pack_codes(codes, 16)
    tracemalloc.start()
    unpack_codes(data, codes.shape, 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * codes.size


# Hostile and damaged streams.


def test_truncations_and_tails_are_refused() -> None:
    for codes in (noise((60,), 16), smooth(40, 32), noise((80, 90), 16)):
        data = pack_codes(codes, 32)
        cuts = (*range(min(60, len(data))), *range(60, len(data), 41))
        for cut in cuts:
            with pytest.raises(ContainerError):
                unpack_codes(data[:cut], codes.shape, 32)
        for tail in (b"\x00", b"\x00\x00", b"\xff" * 3, bytes(100)):
            with pytest.raises(ContainerError):
                unpack_codes(data + tail, codes.shape, 32)


def test_another_shape_is_refused_before_anything_is_allocated() -> None:
    data = pack_codes(noise((5000,), 16), 16)
    for count in (4000, 6000, 1 << 20, 1 << 28, 1 << 40, 1 << 62):
        tracemalloc.start()
        with pytest.raises(ContainerError):
            unpack_codes(data, (count,), 16)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4_000_000


def test_lanes_that_cannot_be_are_refused() -> None:
    codes = noise((200, 200), 16)
    header = plan(codes, 16, None).header
    body = pack_codes(codes, 16)[len(write_header(header, 16)) :]
    for lanes in (1, header.lanes + 1, 20_000, 40_000):
        data = write_header(header._replace(lanes=lanes), 16) + body
        with pytest.raises(ContainerError):
            unpack_codes(data, codes.shape, 16)


def bits(*fields: tuple[int, int] | int) -> bytes:
    """(value, width), or a number in Elias's gamma code."""
    writer = BitWriter()
    for field in fields:
        if isinstance(field, tuple):
            writer.write(*field)
        else:
            writer.write_gamma(field)
    return writer.to_bytes()


def test_more_counts_than_allowed_are_refused() -> None:
    """512 contexts of 4096 codes would take a hundred megabytes."""
    limits = bits((1, 1), (0, 1), 3, (0, 4), (0, 4), (1, 2), (1, 2), 9, 512, *[1] * 511)
    tracemalloc.start()
    with pytest.raises(ContainerError, match="layout 1 of 4096 codes"):
        unpack_codes(limits + bytes(100_000), (300, 300), 4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


HEAD = ((1, 1), (0, 1), 3, (0, 4), (0, 4), (1, 2))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "cut off"),
        (bits((0, 1), 9), "above 8"),  # a run beyond the alphabet
        (bits((0, 1), 3, 7), "above 6"),
        (bits((1, 1), (0, 1), 9), "above 8"),  # more codes below zero than there are
        (bits(*HEAD, (3, 2)), "layout 3"),
        (bits(*HEAD, (2, 2)), "layout 2"),  # Planes for a matrix
        (bits(*HEAD, (1, 2), (1 << 20) + 2), "above"),  # a mean magnitude
        (bits(*HEAD, (1, 2), 9, 513), "above 512"),  # more limits than allowed
        (bits(*HEAD, (0, 2), 101), "above 100"),  # more lanes than codes
        (bits(*HEAD, (0, 2), 1) + bytes(3), "no 1 lanes"),
        (bits(*HEAD, (0, 2), 1) + bytes(5), "no 1 lanes"),
        (bits(*HEAD, (0, 2), 1) + bytes(4), "below 65536"),
        (bits(*HEAD, (0, 2), 1) + b"\x00\x00\x01\x00", "words end"),
    ],
)
def test_hostile_headers(data: bytes, what: str) -> None:
    with pytest.raises(ContainerError, match=what) as caught:
        unpack_codes(data, (10, 10), 8)
    assert "\n" not in str(caught.value)


@given(
    st.binary(max_size=200),
    st.sampled_from([(5,), (300,), (20, 20), (4, 3, 3, 3), (6, 2, 70)]),
    st.integers(1, 300),
)
@settings(max_examples=200)
def test_any_bytes_give_codes_or_one_error(
    data: bytes, shape: tuple[int, ...], alphabet: int
) -> None:
    try:
        codes = unpack_codes(data, shape, alphabet)
    except ContainerError:
        return
    assert codes.shape == shape
    assert codes.max() < alphabet


@given(st.integers(0, 10**9), st.integers(0, 7), st.integers(0, 2))
@settings(max_examples=30)
def test_a_flipped_bit_gives_codes_or_one_error(place: int, bit: int, kind: int) -> None:
    codes = (noise((500,), 16), noise((40, 30), 16), smooth(12, 16))[kind]
    data = bytearray(pack_codes(codes, 16))
    data[place % len(data)] ^= 1 << bit
    try:
        found = unpack_codes(bytes(data), codes.shape, 16)
    except ContainerError:
        return
    assert found.shape == codes.shape
    assert found.max() < 16


def test_a_flipped_bit_in_the_compiled_loop_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    monkeypatch.setattr(compiled, "worth_it", lambda _: True)
    codes = smooth(60, 16)
    data = pack_codes(codes, 16)
    refused = 0
    for place in range(0, len(data), 29):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        try:
            assert unpack_codes(bytes(broken), codes.shape, 16).shape == codes.shape
        except ContainerError:
            refused += 1
    assert refused > len(data) // 58


def test_arguments_out_of_range() -> None:
    for alphabet in (0, 4097):
        with pytest.raises(RangeError, match="alphabet"):
            pack_codes(np.zeros(3, np.uint8), alphabet)
        with pytest.raises(RangeError, match="alphabet"):
            unpack_codes(b"\x00", (1,), alphabet)
    with pytest.raises(RangeError, match="0 to 3"):
        pack_codes(np.array([4]), 4)
    with pytest.raises(RangeError, match="0 to 3"):
        pack_codes(np.array([-1]), 4)
    with pytest.raises(RangeError, match="codebook of shape"):
        pack_codes(np.array([0, 1]), 4, np.zeros(3))
