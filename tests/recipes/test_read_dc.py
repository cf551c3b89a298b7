"""The one-file reader gives what the library gives, needs numpy alone, and refuses in one line."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.encoding import Encoded, Encoding, Masked, int8_codebook
from recipes.loaders.python import read_dc as alone
from recipes.loaders.python.read_dc import ContainerError, read_dc
from targets.formats.dc_codes import CODINGS, QUICK
from targets.formats.dc_envelope import read_container, read_state, write_container
from targets.formats.dc_head import DICTIONARY
from tests.containers import parts, put, sealed

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "sparse_lenet.v2.dc"
ABOUT = {"digest": "0" * 64}
ONE = np.ones(1, np.float32)

Tensor = tuple[NDArray[Any], Encoding | None]


def assert_same(path: Path) -> None:
    """Names in the same order, types, shapes and bits."""
    found, _ = read_dc(path)
    wanted = read_state(path)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def shared(codes: NDArray[Any], book: NDArray[Any], scale: NDArray[Any] = ONE) -> Tensor:
    encoding = Encoded(codes, book, scale, None if scale.size == 1 else 0)
    return encoding.decode(), encoding


def every_kind(seed: int, rows: int, kept: float) -> dict[str, Tensor]:
    """A tensor of each form, type, way of writing values and way of coding."""
    rng = np.random.default_rng(seed)
    shape = (rows, 41)
    there = rng.random(shape) < kept
    normal = rng.normal(size=shape).astype(np.float32)
    book = np.r_[0, np.sort(rng.normal(size=31))].astype(np.float32)
    laplace = np.minimum(31, rng.geometric(0.3, shape)).astype(np.uint8)
    wide = (rng.integers(0, 900, shape) * there).astype(np.uint16)
    signed = rng.normal(size=rows).astype(np.float32)
    integers = int8_codebook()
    return {
        "masked": (np.where(there, normal, np.float32(0)), Masked(there)),
        "shared": shared((laplace * there).astype(np.uint8), book),
        "dense": shared(laplace, book),
        "channels": shared((laplace * there).astype(np.uint8), book, signed),
        "grid": shared((rng.integers(0, 256, shape) * there).astype(np.uint8), integers, signed),
        "wide": shared(wide, np.arange(900, dtype=np.float32) / 8),
        "empty": shared(np.zeros((0, 3), np.uint8), book),
        "float32": (normal, None),
        "float16": (normal.astype(np.float16), None),
        "half": (normal.astype(np.float16).astype(np.float32), None),
        "double": (normal.astype(np.float64), None),
        "int64": (rng.integers(-(2**62), 2**62, shape), None),
        "int32": (rng.integers(-9, 9, shape).astype(np.int32), None),
        "counter": (np.array(7, np.int64), None),
        "range": (np.arange(rows, dtype=np.float32) * np.float32(0.1), None),
        "steps": ((rng.integers(-40, 40, rows) * np.float32(0.037)).astype(np.float32), None),
        "negative": (-np.abs(normal), None),
        "constant": (np.full(shape, np.float32(0.3)), None),
        "ones": (np.ones(rows, np.float32), None),
        "bits": (np.frombuffer(rng.bytes(4 * rows), np.float32), None),
    }


@pytest.mark.parametrize("kept", [0.0, 0.04, 0.5, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 400])
def test_every_kind_of_tensor(rows: int, kept: float, tmp_path: Path) -> None:
    path = tmp_path / "all.dc"
    for quick in (False, True):
        write_container(path, ABOUT, every_kind(rows, rows, kept), quick=quick)
        assert_same(path)


@pytest.mark.parametrize("number", CODINGS)
def test_every_coding(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in set(CODINGS) - {number}:
        monkeypatch.delitem(CODINGS, other)
    path = tmp_path / "one.dc"
    write_container(path, ABOUT, every_kind(0, 300, 0.2), quick=number in QUICK)
    codings = {m.codes.coding for _, m in read_container(path).measure() if m.codes}
    assert codings == {CODINGS[number].name}
    assert_same(path)


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 30), kept=st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tensors(seed: int, rows: int, kept: float, tmp_path: Path) -> None:
    path = tmp_path / "any.dc"
    write_container(path, ABOUT, every_kind(seed, rows, kept))
    assert_same(path)


def test_the_golden_file() -> None:
    assert_same(GOLDEN)
    _, about = read_dc(GOLDEN)
    assert about["spec"]["builder"] == "compress.models.lenet:lenet300"


def test_it_needs_numpy_alone(tmp_path: Path) -> None:
    """Copied out of the project, as an app would have it."""
    script = tmp_path / "read_dc.py"
    script.write_text(Path(alone.__file__).read_text())
    out = tmp_path / "net.npz"
    command = [sys.executable, "-I", "-X", "importtime", str(script), str(GOLDEN), str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    roots = {name.partition(".")[0] for name in imported}
    assert "numpy" in roots
    assert roots & {"torch", "safetensors", "onnx", "compress", "targets", "recipes"} == set()
    with np.load(out) as arrays:
        wanted = read_state(GOLDEN)
        assert set(arrays) == set(wanted)
        assert all(np.array_equal(arrays[name], wanted[name]) for name in wanted)


def test_the_dictionary_is_the_formats() -> None:
    assert alone._DICTIONARY == DICTIONARY


def test_memory_is_the_weights_and_one_more(tmp_path: Path) -> None:
    """Three tensors of 2 MB: all of them, the file, and what decoding the last one takes."""
    rng = np.random.default_rng(0)
    shape = (3, 500, 1000)
    codes = (rng.integers(1, 32, shape) * (rng.random(shape) < 0.1)).astype(np.uint8)
    book = np.r_[0, rng.normal(size=31)].astype(np.float32)
    path = tmp_path / "three.dc"
    write_container(path, ABOUT, {f"w{i:02}": shared(c, book) for i, c in enumerate(codes)})
    tensor = 4 * codes[0].size
    for read in (lambda: read_dc(path)[0], lambda: read_state(path)):
        read()  # imports what is lazily imported
        tracemalloc.start()
        state = read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        held = sum(array.nbytes for array in state.values())
        assert held == 3 * tensor
        assert peak < held + tensor + path.stat().st_size


# -- hostile files ----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.dc"
    write_container(path, {**ABOUT, "spec": {}}, every_kind(1, 4, 0.3))
    return path


def refused(path: Path) -> str | None:
    """The one line, or None for a file that is read."""
    try:
        read_dc(path)
    except ContainerError as error:
        message = str(error)
    else:
        return None
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_no_container(tmp_path: Path) -> None:
    path = tmp_path / "x.dc"
    for data in (b"", b"x" * 100, (GOLDEN.parent / "sparse_lenet.v1.dc").read_bytes()):
        path.write_bytes(data)
        assert "no Deep Compression container of version 2" in (refused(path) or "")


def test_every_flipped_byte(small: Path) -> None:
    data = bytearray(small.read_bytes())
    for place in range(0, len(data), 19):
        data[place] ^= 1 << place % 8
        small.write_bytes(data)
        data[place] ^= 1 << place % 8
        assert refused(small)


def test_damage_under_a_right_checksum(small: Path) -> None:
    """One line, or other weights."""
    data = bytearray(small.read_bytes())
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for place in rng.integers(16, len(data), 40).tolist():
        old = data[place]
        data[place] = int(rng.integers(0, 256))
        sealed(small, bytes(data))
        data[place] = old
        said = refused(small)
        outcomes[said is None] += 1
        if said is None:
            found, _ = read_dc(small)
            assert all(isinstance(array, np.ndarray) for array in found.values())
    assert min(outcomes.values()) > 0


def test_truncations_under_a_right_checksum(small: Path) -> None:
    data = small.read_bytes()
    for length in range(17, len(data), 79):
        assert refused(sealed(small, data[:length]))


def test_what_the_head_claims(small: Path) -> None:
    found = parts(small)
    for change, message in (
        ({"about": b"[" * 100_000}, "recursion"),
        ({"about": b"[]"}, "no object"),
        ({"about": b"\xff"}, "decode"),
        ({"names": found["names"] + b"\nz"}, "cut off"),
        ({"columns": found["columns"] + b"\0"}, "too many"),
        ({"columns": found["columns"][:-1]}, "cut off"),
        ({"payload": found["payload"] + b"\0"}, "too many"),
        ({"payload": found["payload"][:-1]}, "cut off"),
    ):
        said = refused(put(small, {**found, **change}))
        assert said is not None
        assert message in said


@given(data=st.binary(max_size=300))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_payload(data: bytes, tmp_path: Path) -> None:
    """One tensor of each form over any bytes: an array or one line."""
    path = tmp_path / "any.dc"
    if not path.exists():
        write_container(path, ABOUT, {"w": shared(np.ones((2, 3), np.uint8), np.float32([0, 1]))})
    found = parts(path)
    for form in (0, 1, 8, 64, 65, 66 + 4):
        columns = bytes([form, 2, 2, 3]) + dc_length(len(data))
        put(path, {**found, "columns": columns, "payload": data})
        refused(path)


def dc_length(count: int) -> bytes:
    return bytes([count & 127 | 128, count >> 7]) if count > 127 else bytes([count])


def test_a_hostile_size_takes_no_memory(small: Path) -> None:
    found = parts(small)
    shape = b"\xff\xff\xff\x7f"  # 2**28 - 1
    columns = bytes([0, 2]) + shape + shape + b"\0"
    put(small, {**found, "names": b"w", "columns": columns, "payload": b""})
    tracemalloc.start()
    assert "weights" in (refused(small) or "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
