from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.coding import compiled

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
import numpy as np
from compress.coding import compiled, huffman
symbols = (np.arange(200_000) ** 2 // 7 % 64 & 45).astype(np.uint8)
data = huffman.pack(symbols, 64)
assert np.array_equal(huffman.unpack(data, symbols.size, 64), symbols)
import hashlib
print(hashlib.sha256(data).hexdigest(), "numba" in sys.modules)
"""


def printed(script: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert done.stderr == ""
    return done.stdout


def test_without_numba_the_arrays_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    without = printed(SCRIPT, tmp_path, PYTHONPATH=path).split()
    assert without[1] == "False"
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    assert printed(SCRIPT, ROOT).split() == [without[0], "True"]


def test_a_small_input_loads_no_compiler() -> None:
    small = SCRIPT.replace("200_000", "20_000")
    assert printed(small, ROOT).split()[1] == "False"


def test_many_short_runs_are_expected_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    monkeypatch.setattr(compiled, "_started", set())
    compiled.expect(5000)
    assert not compiled.worth_it(5000)
    compiled.expect(1 << 16)
    assert compiled.worth_it(5000)


def test_a_package_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """numba has nowhere to keep what it compiled; the loops are compiled all the same."""
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    shutil.copytree(
        ROOT / "compress", tmp_path / "compress", ignore=shutil.ignore_patterns("__pycache__")
    )
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("a file, so that no folder can be made in it\n")
    (tmp_path / "compress" / "coding" / "__pycache__").write_text("nor here\n")
    home = {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere), "NUMBA_CACHE_DIR": ""}
    assert printed(SCRIPT, tmp_path, **home).split()[1] == "True"


def test_what_is_worth_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba (extra `fast`) is not installed")
    monkeypatch.setattr(compiled, "_started", set[str]())
    assert compiled.worth_it(1 << 20)
    assert not compiled.worth_it(1000)
    words = np.zeros(4, np.uint16)
    states = np.full(2, 1 << 16, np.uint64)
    ones = np.ones(4, np.uint16)
    assert compiled.kernel("ans_encode")(0 * ones, ones << 14, states, words) == 4
    assert compiled.worth_it(1000)
    assert not compiled.worth_it(10)
