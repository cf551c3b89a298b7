"""Tensors decoded into the bytes of a file: as decode_tensor has them, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.coding import compiled, loops, plane_loops, weight_loops
from compress.encoding import Encoded, int8_codebook
from compress.errors import ContainerError
from targets.formats.dc_codes import write_codes
from targets.formats.dc_fill import Filler
from targets.formats.dc_record import Record
from targets.formats.dc_tensor import decode_tensor, encode_tensor

BLOCK = 1 << 16
ONE = np.ones(1, np.float32)
MANY = 1 << 20  # values in all, enough for the compiler


@pytest.fixture(params=["plain", "compiled"])
def either_loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The loops as plain Python, so that it holds without numba, and compiled."""
    if request.param == "compiled":
        if not compiled.worth_it(MANY):
            pytest.skip("numba is not installed")
        yield
        return
    monkeypatch.setattr(compiled, "worth_it", lambda _: True)
    kernels = {**vars(loops), **vars(plane_loops), **vars(weight_loops)}
    monkeypatch.setattr(compiled, "kernel", kernels.__getitem__)
    monkeypatch.setattr(compiled, "loaded", lambda: False)
    with np.errstate(over="ignore"):  # the loops rely on it
        yield


def shared(shape: tuple[int, ...], entries: int, zeros: float, seed: int = 0) -> Encoded:
    """Codes of which the last is used, and so many are 0; a scale that is not one."""
    rng = np.random.default_rng(seed)
    codes = np.minimum(rng.geometric(0.2, shape), entries - 1).astype(np.uint8)
    codes[rng.random(shape) < zeros] = 0
    codes.flat[-3] = entries - 1
    book = np.append(np.float32(0), rng.standard_normal(entries - 1).astype(np.float32))
    return Encoded(codes, book, 3 * ONE)


def coded(encoded: Encoded) -> tuple[Record, bytes]:
    return encode_tensor("w", encoded.decode(), encoded, quick=True)


def filled(record: Record, payload: bytes, place: int = 5) -> NDArray[Any] | None:
    """What is written, None for nothing; the bytes around it stay zero."""
    target = memoryview(bytearray(4 * record.size + place + 3))
    written = Filler(target, MANY).write(record, memoryview(payload), place)
    assert not any(target[:place])
    assert not any(target[place + 4 * record.size :])
    if not written:
        return None
    return np.frombuffer(target, "<f4", record.size, place).reshape(record.shape)


CASES = {
    "sparse": shared((40, 30), 20, 0.7),
    "very sparse": shared((3, 700), 3, 0.995),
    "dense": shared((6, 5, 3, 3), 9, 0.0),
    "grid": Encoded(shared((9, 40), 256, 0.5).indices, int8_codebook(), ONE / 256),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("place", [0, 3, 8])
@pytest.mark.usefixtures("either_loops")
def test_the_very_values(case: str, place: int) -> None:
    encoded = CASES[case]
    found = filled(*coded(encoded), place)
    assert found is not None
    assert found.tobytes() == encoded.decode().tobytes()


@pytest.mark.skipif(not compiled.worth_it(MANY), reason="numba is not installed")
@pytest.mark.parametrize("zeros", [0.0, 0.6])
@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77])
def test_many_blocks(size: int, zeros: float) -> None:
    encoded = shared((size,), 32, zeros)
    found = filled(*coded(encoded))
    assert found is not None
    assert found.tobytes() == encoded.decode().tobytes()


def test_what_is_left_to_others() -> None:
    """Scales of channels, one value alone, codings for size, more than 256 codes."""
    encoded = CASES["sparse"]
    channels = Encoded(encoded.indices, encoded.codebook, np.full(40, 0.5, np.float32), 0)
    zero = Encoded(np.zeros((40, 30), np.uint8), encoded.codebook, ONE)
    wide = Encoded(
        np.arange(1200, dtype=np.uint16).reshape(40, 30) % 300, np.arange(300, dtype="f4"), ONE
    )
    for other in (channels, zero, wide):
        assert filled(*coded(other)) is None
    assert filled(*encode_tensor("w", encoded.decode(), encoded)) is None
    assert filled(*encode_tensor("w", encoded.decode(), None)) is None


def test_few_values_load_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_started", set())
    target = memoryview(bytearray(5000))
    record, payload = coded(CASES["sparse"])
    assert not Filler(target, 1200).write(record, memoryview(payload), 0)


@pytest.mark.parametrize("case", ["sparse", "dense"])
@pytest.mark.usefixtures("either_loops")
def test_every_flipped_bit(case: str) -> None:
    """Written only where decode_tensor gives the same; never beside the place."""
    record, payload = coded(CASES[case])
    refused = 0
    for place in range(0, len(payload), 1 if len(payload) < 400 else 3):
        flipped = bytearray(payload)
        flipped[place] ^= 1 << (place % 8)
        found = filled(record, bytes(flipped))
        try:
            wanted, _ = decode_tensor(record, memoryview(flipped))
        except ContainerError:
            wanted = None
        refused += wanted is None
        if found is not None:
            assert wanted is not None
            assert found.tobytes() == wanted.tobytes()
    assert refused > 10


@pytest.mark.usefixtures("either_loops")
def test_every_truncation() -> None:
    record, payload = coded(CASES["sparse"])
    for size in range(0, len(payload), 7):
        assert filled(record, payload[:size]) is None
    assert filled(record, payload + b"\0") is None


def test_lengths_beyond_the_bytes() -> None:
    """More bytes of gaps than there are, more entries than elements, a width that is none."""
    encoded = CASES["sparse"]
    record, payload = coded(encoded)
    codes = write_codes(encoded.indices, encoded.codebook, quick=True)
    head = payload[: -len(codes)]
    huge = b"\xff" * 8 + b"\x7f"
    for start in (b"\x03\x03" + huge, b"\x03\x03\x05" + huge, b"\x03\xc8\x05\x05"):
        assert filled(record, head + start + codes[5:]) is None


@pytest.mark.parametrize("value", [np.inf, np.nan, -3e38])
@pytest.mark.usefixtures("either_loops")
def test_values_that_are_refused(value: float) -> None:
    encoded = CASES["sparse"]
    record, payload = coded(encoded)
    bad = payload.replace(encoded.codebook[1].tobytes(), np.float32(value).tobytes())
    assert bad != payload
    with pytest.raises(ContainerError):
        decode_tensor(record, memoryview(bad))
    assert filled(record, bad) is None


def test_a_code_0_that_is_not_zero_is_refused() -> None:
    encoded = CASES["sparse"]
    record, payload = coded(encoded)
    assert payload[2:6] == bytes(4)  # the first value of the codebook, as it is
    assert filled(record, payload[:2] + ONE.tobytes() + payload[6:]) is None
