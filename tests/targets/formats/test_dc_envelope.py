"""The container's envelope: one hostile file for each check, bounded memory, no torch."""

from __future__ import annotations

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
from safetensors.numpy import save

from compress.encoding import Masked
from compress.errors import ContainerError, ExportError
from targets.formats import dc_envelope, dc_record
from targets.formats.dc_envelope import VERSION, read_container, read_state, write_container
from targets.formats.dc_head import DICTIONARY, LIMITS, deflate
from targets.formats.dc_record import MAX_ELEMENTS, Record
from tests.containers import parts, put, put_packed, sealed, with_records

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "0123456789abcdef" * 4
ABOUT = {"spec": {}, "digest": DIGEST}


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
    write_container(path, ABOUT, tensors(), b"a graph")
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
    assert container.about == {"spec": {}, "digest": DIGEST[:16]}
    assert container.version == VERSION
    state = read_state(whole)
    assert list(state) == ["a", "b", "n"]
    for name, (array, _) in tensors().items():
        assert state[name].tobytes() == array.tobytes()
        assert (state[name].dtype, state[name].shape) == (array.dtype, array.shape)


def test_equal_arguments_give_equal_bytes_in_any_order(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.dc"
    turned = dict(reversed(tensors().items()))
    write_container(other, ABOUT, turned, b"a graph")
    assert other.read_bytes() == whole.read_bytes()


def test_a_container_without_tensors(tmp_path: Path) -> None:
    write_container(tmp_path / "empty.dc", ABOUT, {})
    assert read_state(tmp_path / "empty.dc") == {}


def test_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.dc")
    assert "is no file" in refusal(tmp_path)


def test_every_truncation_and_tail(whole: Path) -> None:
    data = whole.read_bytes()
    for length in range(len(data)):
        whole.write_bytes(data[:length])
        message = refusal(whole)
        assert "is no Deep Compression container" in message or "checksum differs" in message
    whole.write_bytes(data + b"x")
    assert "checksum differs" in refusal(whole)


def test_every_truncation_under_a_right_checksum(whole: Path) -> None:
    data = whole.read_bytes()
    for length in range(17, len(data), 3):
        assert "cut off" in refusal(sealed(whole, data[:length])) or length > len(data) - 60


def test_every_flipped_byte(whole: Path) -> None:
    data = bytearray(whole.read_bytes())
    for place in range(len(data)):
        data[place] ^= 1 << place % 8
        whole.write_bytes(data)
        data[place] ^= 1 << place % 8
        message = refusal(whole)
        assert "differs" in message or "no Deep Compression" in message or "version" in message


def packed(whole: Path) -> dict[str, bytes]:
    """The deflated parts."""
    found = parts(whole)
    head = b"".join(dc_envelope.write_varint(len(found[n])) + found[n] for n in ("about", "names"))
    return {
        "digest": found["digest"],
        "head": deflate(head + found["columns"], "head", DICTIONARY),
        "graph": deflate(found["graph"], "graph"),
        "payload": found["payload"],
    }


@pytest.mark.parametrize("part", ["head", "graph"])
def test_deflated_parts_cut_off_damaged_or_with_a_tail(whole: Path, part: str) -> None:
    raw = packed(whole)
    before = whole.read_bytes()
    assert put_packed(whole, **raw).read_bytes() == before

    def changed(data: bytes) -> str:
        return refusal(put_packed(whole, **{**raw, part: data}))

    assert f"part '{part}' is cut off or has a tail" in changed(raw[part][:-1])
    assert f"part '{part}' is cut off or has a tail" in changed(raw[part] + b"x")
    assert f"part '{part}' is damaged" in changed(b"\xff no deflated data")


@pytest.mark.parametrize("part", ["head", "graph"])
def test_an_inflating_bomb_stays_small(whole: Path, part: str) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(256)) + bomb.flush()
    assert len(data) < 3e5  # 256 MiB of zeros
    put_packed(whole, **{**packed(whole), part: data})
    message = refusal(whole, 2 * LIMITS[part] + 8 * len(data))
    assert f"inflates to more than the allowed {LIMITS[part]:,} bytes" in message


def test_a_part_of_just_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "full.dc"
    write_container(path, ABOUT, {}, bytes(LIMITS["graph"]))
    assert read_container(path).graph == bytes(LIMITS["graph"])
    with pytest.raises(ExportError, match="at most 16,777,216 are allowed"):
        write_container(path, ABOUT, {}, bytes(LIMITS["graph"] + 1))
    assert read_container(path).graph == bytes(LIMITS["graph"])


def test_what_the_reader_would_refuse_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "never.dc"
    with pytest.raises(ExportError, match="'head' takes"):
        write_container(path, {**ABOUT, "edits": "x" * LIMITS["head"]}, {})
    one = np.zeros(1, np.float32)
    monkeypatch.setattr(dc_envelope, "MAX_TENSORS", 50)
    with pytest.raises(ExportError, match="51 tensors of 51 elements do not fit"):
        write_container(path, ABOUT, {str(i): (one, None) for i in range(51)})
    assert list(tmp_path.iterdir()) == []


def test_plain_weights_are_no_container(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save({"conv.weight": np.zeros((2, 3), np.float32)}))
    assert "holds conv.weight (float32, (2, 3)); a Deep Compression container" in refusal(path)


def test_a_head_that_claims_the_earth(whole: Path) -> None:
    data = whole.read_bytes()
    assert "cut off" in refusal(sealed(whole, data[:16] + b"\xff" * 8 + b"\x7f"))
    assert "is cut off, too long" in refusal(sealed(whole, data[:16] + b"\xff" * 12))


@pytest.mark.parametrize("version", [0, 1, VERSION + 1, 255])
def test_another_version(whole: Path, version: int) -> None:
    data = whole.read_bytes()
    whole.write_bytes(data[:3] + bytes([version]) + data[4:])
    assert f"version {version}; 1 and {VERSION} are readable: update" in refusal(whole)


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
        ({"payload_bytes": 3}, "index accounts for"),
        ({"payload_bytes": 1 << 62}, "index accounts for"),
        ({"shape": (MAX_ELEMENTS, 2)}, "claims shape"),
        ({"shape": (MAX_ELEMENTS + 1, 0)}, "claims shape"),
        ({"shape": (1,) * 9}, "9 axes, at most 8"),
        ({"shape": (5, 9)}, "'a' is damaged"),
    ],
)
def test_index_claims(whole: Path, fields: dict[str, Any], message: str) -> None:
    with_records(whole, change(0, **fields))
    assert message in refusal(whole)


def test_many_tensors_of_just_the_allowed_size(whole: Path) -> None:
    half = MAX_ELEMENTS // 2
    with_records(whole, lambda found: [replace(record, shape=(half + 1,)) for record in found])
    assert "elements; at most 65,536 and 268,435,456 are allowed" in refusal(whole)


def test_names_repeated_out_of_order_empty_or_too_long(whole: Path) -> None:
    with_records(whole, lambda found: found[::-1])
    assert "'b' after 'n'; names rise" in refusal(whole)
    for names in (b"a\nb\nb", b"\nb\nn", b"a\nb\n" + b"n" * 1025):
        assert "names rise and have at most 1024 bytes" in refusal(
            put(whole, {**parts(whole), "names": names})
        )


def test_a_name_not_utf8(whole: Path) -> None:
    found = parts(whole)
    put(whole, {**found, "names": found["names"].replace(b"n", b"\xfe")})
    assert "not UTF-8" in refusal(whole)


def test_columns_too_short_or_too_long(whole: Path) -> None:
    found = parts(whole)
    for length in range(len(found["columns"])):
        message = refusal(put(whole, {**found, "columns": found["columns"][:length]}))
        assert "cut off" in message
    assert "more than they need" in refusal(
        put(whole, {**found, "columns": found["columns"] + b"\x00"})
    )


def test_too_many_tensors(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dc_record, "MAX_TENSORS", 2)
    assert "index claims more than 2 tensors" in refusal(whole)


@pytest.mark.parametrize("form", [5, 7, 9, 63, 64 + 4 * 3, 255])
def test_forms_that_no_tensor_has(whole: Path, form: int) -> None:
    found = parts(whole)
    columns = bytes([form]) + found["columns"][1:]
    assert f"'a' has form {form}" in refusal(put(whole, {**found, "columns": columns}))


def test_a_failed_write_leaves_the_old_file(whole: Path) -> None:
    before = whole.read_bytes()
    with pytest.raises(ExportError):
        write_container(whole, ABOUT, {"x": (np.zeros(1, np.bool_), None)})
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
