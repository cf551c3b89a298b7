"""Every kind of .onnx file in an old onnxruntime: those of opset 18 run, the others are explained.

Needs an environment with onnxruntime 1.15, which `make old` puts into build/old; EDGEPRESS_OLD
names another. Skipped, with the reason, where there is none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import recipes
from targets.runtimes.onnx_age import too_new
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.elsewhere import answers
from tests.onnx_kinds import KINDS

ROOT = Path(recipes.__file__).parents[1]
SCRIPT = Path(__file__).with_name("old_answers.py")
RUN = 18  # the opset that runs; of 19, onnxruntime 1.15 has some operators


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    named = os.environ.get("EDGEPRESS_OLD")
    python = (Path(named) if named else ROOT / "build" / "old").absolute() / "bin" / "python"
    if not python.exists():
        assert named is None, f"EDGEPRESS_OLD={named}: there is no {python}"
        pytest.skip(f"an old onnxruntime is not in {python.parents[1]}; run: make old")
    return answers([str(python), str(SCRIPT)], tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize("name", KINDS)
def test_old_runtimes_run_a_file_or_say_what_we_can_explain(
    name: str, found: dict[str, Any]
) -> None:
    kind, answer = KINDS[name], found[name]
    path = kind.artifact().path
    if opset(path) <= RUN:
        expected = OnnxRuntime().load(path).predict(kind.pictures())
        np.testing.assert_array_equal(answer.argmax(1), expected.argmax(1))
        return
    told = too_new(path.read_bytes(), "1.15", answer["refused"])
    assert told is not None, answer
    packed = ", packed" in name
    way = r"OnnxPackedExporter(profile='compatible')" if packed else "OnnxExporter(opset=18)"
    assert f"write it by {way}, or install a newer onnxruntime" in told


@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith(", packed")])
def test_compatible_files_give_the_bits_of_the_plain_ones_there_too(
    name: str, found: dict[str, Any]
) -> None:
    plain = name.removesuffix(", packed")
    assert found[name].tobytes() == found[plain].tobytes()


def opset(path: Path) -> int:
    return max(entry.version for entry in onnx.load(path).opset_import)
