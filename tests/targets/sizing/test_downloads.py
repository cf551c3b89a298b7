"""What a file takes in transit: as the tools themselves have it, and a reason for each gap."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import brotli
import numpy as np
import pytest
import zstandard

from targets.sizing.downloads import downloads

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data() -> bytes:
    return np.random.default_rng(0).integers(0, 9, 20_000).astype(np.uint8).tobytes()


def test_each_is_what_unpacks_to_the_file(data: bytes, tmp_path: Path) -> None:
    found = downloads(data)
    assert found.reasons == {}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as app:
        app.writestr("net.bin", data)
        assert found.zip_bytes == app.infolist()[0].compress_size
    packed = brotli.compress(data, quality=11)
    assert brotli.decompress(packed) == data
    assert found.brotli_bytes == len(packed)
    frame = zstandard.ZstdCompressor(level=19).compress(data)
    assert zstandard.ZstdDecompressor().decompress(frame) == data
    assert found.zstd_bytes == len(frame)
    assert max(found.brotli_bytes, found.zstd_bytes) < len(data) / 2


def test_a_large_file_is_not_compressed_for_minutes(data: bytes) -> None:
    found = downloads(data, most=len(data) - 1)
    assert found.zip_bytes == downloads(data).zip_bytes
    assert found.brotli_bytes is found.zstd_bytes is None
    assert set(found.reasons) == {"brotli_bytes", "zstd_bytes"}
    assert "more than 19,999 bytes" in found.reasons["zstd_bytes"]
    assert downloads(data, most=len(data)).reasons == {}


@pytest.mark.parametrize("module", ["brotli", "zstandard"])
def test_a_missing_library_is_a_reason(
    data: bytes, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = downloads(data)
    (name,) = found.reasons
    assert name.startswith(module[:3] if module == "brotli" else "zstd")
    assert getattr(found, name) is None
    assert found.reasons[name] == f"{module} is not installed; run: pip install {module}"


def test_they_are_imported_when_they_are_needed() -> None:
    script = "import sys, targets.rows; print(sorted({'brotli', 'zstandard'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
