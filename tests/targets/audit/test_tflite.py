"""The audit says what XNNPACK took of a .tflite file, and what its layers compute in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.errors import DataError, MissingExtraError
from compress.measure import count
from targets.artifact import Artifact
from targets.audit.tflite import audit_tflite
from targets.audit.words import audit_lines
from targets.formats.tflite_sketch import Quantization, Sketch
from targets.metadata import artifact_metadata
from tests.candidates import fresh

pytest.importorskip("ai_edge_litert.schema_py_generated")


@pytest.mark.parametrize("name", ["residual", "plain"])
def test_an_int8_file(name: str, int8_file: Callable[[str], tuple[Candidate, Artifact]]) -> None:
    candidate, artifact = int8_file(name)
    found = audit_tflite(artifact.path)
    assert {layer.ran for layer in found.layers} == {"int8"}
    assert found.macs == count(candidate.spec, candidate.network.module()).macs
    assert found.int8_share == 1.0
    assert (found.provider, found.left, found.expanded) == ("XNNPACK", {}, ())
    assert found.taken == sum(found.operators.values())
    assert found.in_int8 == found.operators
    assert "XNNPACK took all" in next(iter(audit_lines(found)))


def sketched(tmp_path: Path, sketch: Sketch, x: int, y: int) -> Path:
    path = tmp_path / "s.tflite"
    path.write_bytes(sketch.finish({"x": x}, {"y": y}, artifact_metadata(fresh())))
    return path


def test_what_the_delegate_leaves_is_named(tmp_path: Path) -> None:
    """ABS, then FLOOR_MOD, which XNNPACK does not know, then ABS: two parts and one left."""
    sketch = Sketch()
    tensors = [sketch.tensor(f"t{i}", (1, 64), "FLOAT32") for i in range(4)]
    two = sketch.tensor("two", (1, 64), "FLOAT32", np.full((1, 64), 2, np.float32))
    sketch.operator("ABS", 1, [tensors[0]], [tensors[1]])
    sketch.operator("FLOOR_MOD", 1, [tensors[1], two], [tensors[2]])
    sketch.operator("ABS", 1, [tensors[2]], [tensors[3]])
    found = audit_tflite(sketched(tmp_path, sketch, tensors[0], tensors[3]))
    assert found.left == {"FLOOR_MOD": 1}
    assert (found.taken, found.parts) == (2, 2)
    assert found.layers == ()
    assert found.int8_share is None
    first = next(iter(audit_lines(found)))
    assert first.endswith("XNNPACK took 2 of 3 operators in 2 parts; left: 1 FLOOR_MOD")


def test_weight_only_int8_computes_in_float(tmp_path: Path) -> None:
    grid = Quantization(np.float32([0.5]), np.int64([0]))
    sketch = Sketch()
    x = sketch.tensor("x", (1, 8), "FLOAT32")
    codes = sketch.tensor("w", (4, 8), "INT8", np.ones((4, 8), np.int8), grid)
    real = sketch.tensor("w_real", (4, 8), "FLOAT32")
    y = sketch.tensor("y", (1, 4), "FLOAT32")
    sketch.operator("DEQUANTIZE", 2, [codes], [real])
    sketch.operator("FULLY_CONNECTED", 1, [x, real, -1], [y])
    found = audit_tflite(sketched(tmp_path, sketch, x, y))
    assert [(layer.name, layer.ran, layer.macs) for layer in found.layers] == [
        ("w_real", "float", 32)
    ]
    assert found.dequantize.ran == 1
    assert found.in_int8 == {}
    assert "the rest" not in "".join(audit_lines(found))


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wrong.tflite"
    for content in (b"", b"\x1c\x00\x00\x00TFL3" + bytes(64), b"no flatbuffer at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"wrong\.tflite") as caught:
            audit_tflite(path)
        assert "\n" not in str(caught.value)
    sketch = Sketch()
    x, y = (sketch.tensor(name, (1, 4), "FLOAT32") for name in "xy")
    sketch.operator("ABS", 1, [x], [y])
    whole = sketched(tmp_path, sketch, x, y)
    for part in ("schema_py_generated", "interpreter"):
        monkeypatch.setitem(sys.modules, f"ai_edge_litert.{part}", None)
        monkeypatch.setitem(sys.modules, f"tflite_runtime.{part}", None)
        with pytest.raises(MissingExtraError, match="pip install 'edgepress"):
            audit_tflite(whole)
        monkeypatch.undo()
