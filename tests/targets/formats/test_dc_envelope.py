"""The container's envelope: one hostile file for each check, bounded memory, no torch."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from compress.encoding import Masked
from compress.errors import ContainerError, ExportError
from targets.formats import dc_envelope
from targets.formats.dc_envelope import (
    LIMITS,
    VERSION,
    read_container,
    read_state,
    write_container,
)
from targets.formats.dc_record import MAX_ELEMENTS, Record
from tests.containers import parts, put, with_about, with_records

ROOT = Path(__file__).resolve().parents[3]


def tensors() -> dict[str, Any]:
    mask = np.arange(40).reshape(5, 8) % 3 == 0
    return {
        "b": (np.arange(5, dtype=np.float32), None),
        "a": (np.where(mask, np.float32(1.5), np.float32(0)), Masked(mask)),
        "n": (np.array(7, np.int64), None),
    }


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.dc"
    write_container(path, {"spec": {}}, tensors(), b"a graph")
    return path


def refusal(path: Path, most_bytes: int = 4 << 20) -> str:
    """The one line for a file that is refused, within `most_bytes` of memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ContainerError) as caught:
            for _ in read_container(path).decode():
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))
    assert peak < most_bytes, f"{peak:,} bytes"
    return message


def test_what_is_written_is_read(whole: Path) -> None:
    container = read_container(whole)
    assert container.graph == b"a graph"
    assert container.about == {"spec": {}, "container": VERSION}
    state = read_state(whole)
    assert list(state) == ["a", "b", "n"]
    for name, (array, _) in tensors().items():
        assert state[name].tobytes() == array.tobytes()
        assert (state[name].dtype, state[name].shape) == (array.dtype, array.shape)


def test_equal_arguments_give_equal_bytes_in_any_order(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.dc"
    turned = dict(reversed(tensors().items()))
    write_container(other, {"spec": {}}, turned, b"a graph")
    assert other.read_bytes() == whole.read_bytes()


def test_a_container_without_tensors(tmp_path: Path) -> None:
    write_container(tmp_path / "empty.dc", {}, {})
    assert read_state(tmp_path / "empty.dc") == {}


def test_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.dc")
    assert "is no file" in refusal(tmp_path)


def test_every_truncation(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    for length in range(0, len(data), 3):
        path = tmp_path / "cut.dc"
        path.write_bytes(data[:length])
        assert "is not a whole container" in refusal(path)


def test_a_tail(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b"x")
    assert "is not a whole container" in refusal(whole)


@pytest.mark.parametrize("part", ["about", "index", "graph"])
def test_deflated_parts_cut_off_damaged_or_with_a_tail(whole: Path, part: str) -> None:
    raw = load_file(whole)

    def changed(data: bytes) -> str:
        arrays = {**raw, part: np.frombuffer(data, np.uint8)}
        whole.write_bytes(save(arrays))
        return refusal(whole)

    data = raw[part].tobytes()
    assert f"part '{part}' is cut off or has a tail" in changed(data[:-1])
    assert f"part '{part}' is cut off or has a tail" in changed(data + b"x")
    assert f"part '{part}' is cut off" in changed(b"")
    assert f"part '{part}' is damaged" in changed(data[:-1] + bytes([data[-1] ^ 1]))
    assert f"part '{part}' is damaged" in changed(b"no deflated data")


@pytest.mark.parametrize("part", ["about", "index", "graph"])
def test_an_inflating_bomb_stays_small(whole: Path, part: str) -> None:
    bomb = zlib.compressobj(9)
    data = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(256)) + bomb.flush()
    assert len(data) < 3e5  # 256 MiB of zeros
    raw = load_file(whole)
    whole.write_bytes(save({**raw, part: np.frombuffer(data, np.uint8)}))
    message = refusal(whole, 2 * LIMITS[part] + 8 * len(data))
    assert f"inflates to more than the allowed {LIMITS[part]:,} bytes" in message


def test_a_part_of_just_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "full.dc"
    write_container(path, {}, {}, bytes(LIMITS["graph"]))
    assert read_container(path).graph == bytes(LIMITS["graph"])
    with pytest.raises(ExportError, match="at most 16,777,216 are allowed"):
        write_container(path, {}, {}, bytes(LIMITS["graph"] + 1))
    assert read_container(path).graph == bytes(LIMITS["graph"])


def test_what_the_reader_would_refuse_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "never.dc"
    with pytest.raises(ExportError, match="'about' takes"):
        write_container(path, {"classes": "x" * LIMITS["about"]}, {})
    one = np.zeros(1, np.float32)
    monkeypatch.setattr(dc_envelope, "MAX_TENSORS", 50)
    with pytest.raises(ExportError, match="51 tensors of 51 elements do not fit"):
        write_container(path, {}, {str(i): (one, None) for i in range(51)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["about", "index", "payload"])
def test_a_missing_part(whole: Path, part: str) -> None:
    put(whole, {n: data for n, data in parts(whole).items() if n != part})
    assert "holds the bytes about, index, payload" in refusal(whole)


def test_a_part_too_many(whole: Path) -> None:
    put(whole, {**parts(whole), "more": b"x"})
    assert "more (uint8, (" in refusal(whole)


@pytest.mark.parametrize("dtype", ["i1", "u2", "f2", "f4", "f8", "i8", "?", "c8"])
def test_parts_of_another_type(whole: Path, dtype: str) -> None:
    raw = load_file(whole)
    whole.write_bytes(save({**raw, "payload": np.zeros(16, dtype)}))
    assert f"payload ({np.dtype(dtype)}, (16,))" in refusal(whole)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F9"])
def test_parts_of_types_that_numpy_does_not_know(tmp_path: Path, dtype: str) -> None:
    size = 4 if dtype == "BF16" else 2
    entry = {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}
    header = json.dumps({"about": entry}).encode()
    path = tmp_path / "type.dc"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    assert "is not a whole container" in refusal(path)


def test_parts_of_two_axes(whole: Path) -> None:
    raw = load_file(whole)
    whole.write_bytes(save({**raw, "about": raw["about"].reshape(1, -1)}))
    assert "about (uint8, (1, " in refusal(whole)


def test_plain_weights_are_no_container(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save({"conv.weight": np.zeros((2, 3), np.float32)}))
    assert "holds conv.weight (float32, (2, 3)); a Deep Compression container" in refusal(path)


def test_a_header_that_claims_the_earth(tmp_path: Path) -> None:
    path = tmp_path / "huge.dc"
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert "is not a whole container" in refusal(path)


@pytest.mark.parametrize("version", [0, VERSION + 1, True, "1", 1.0, None, [1]])
def test_another_version(whole: Path, version: object) -> None:
    with_about(whole, lambda about: {**about, "container": version})
    assert f"version {version!r}; {VERSION} is readable: update" in refusal(whole)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b"3", b"null", b"\xff", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_about_is_no_json_object(whole: Path, text: bytes) -> None:
    put(whole, {**parts(whole), "about": text})
    assert "part 'about' is damaged" in refusal(whole, 16 << 20)


def change(place: int, **fields: Any) -> Callable[[list[Record]], list[Record]]:
    def changed(found: list[Record]) -> list[Record]:
        found[place] = replace(found[place], **fields)
        return found

    return changed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sections": (8, 8, 57)}, "index accounts for"),
        ({"sections": (1 << 62, 1 << 62, 1 << 62)}, "index accounts for"),
        ({"numbers": (1, 41)}, "41 entries for 40 elements"),
        ({"shape": (MAX_ELEMENTS, 2)}, "claims shape"),
    ],
)
def test_index_claims(whole: Path, fields: dict[str, Any], message: str) -> None:
    with_records(whole, change(0, **fields))
    assert message in refusal(whole)


def test_many_tensors_of_just_the_allowed_size(whole: Path) -> None:
    half = MAX_ELEMENTS // 2
    with_records(whole, lambda found: [replace(record, shape=(half + 1,)) for record in found])
    assert "elements; at most 65,536 and 268,435,456 are allowed" in refusal(whole)


def test_names_repeated_or_out_of_order(whole: Path) -> None:
    with_records(whole, lambda found: found[::-1])
    assert "'b' after 'n', names must rise" in refusal(whole)
    with_records(whole, lambda found: [found[-1], found[-1], found[0]])
    assert "names must rise" in refusal(whole)


def test_a_name_not_utf8(whole: Path) -> None:
    found = parts(whole)
    put(whole, {**found, "index": found["index"].replace(b"n", b"\xfe")})
    assert "not UTF-8" in refusal(whole)


def test_too_many_tensors(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dc_envelope, "MAX_TENSORS", 2)
    assert "index claims 3 tensors" in refusal(whole)


def test_every_flipped_byte_of_the_payload(whole: Path) -> None:
    found = parts(whole)
    for place in range(len(found["payload"])):
        payload = bytearray(found["payload"])
        payload[place] ^= 0x10
        put(whole, {**found, "payload": bytes(payload)})
        assert "its checksum differs" in refusal(whole)


def test_a_failed_write_leaves_the_old_file(whole: Path) -> None:
    before = whole.read_bytes()
    with pytest.raises(ExportError):
        write_container(whole, {}, {"x": (np.zeros(1, np.bool_), None)})
    assert whole.read_bytes() == before
    assert list(whole.parent.iterdir()) == [whole]


def test_long_messages_are_cut() -> None:
    message = str(dc_envelope.amiss("a.dc", "x\n" * 10_000))
    assert len(message) < 400
    assert "\n" not in message


def test_tensors_are_read_without_torch(whole: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from targets.formats.dc_envelope import read_state\n"
        "state = read_state(Path(sys.argv[1]))\n"
        "print(sorted(state), float(state['a'].sum()), 'onnx' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, str(whole)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['a', 'b', 'n'] 21.0 False"
