"""edgepress inspect --run: what a runtime makes of the file, its load time and memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recipes.cli import USER_ERROR, main
from targets.formats.onnx import OnnxExporter
from tests.containers import sparse_lenet, write_untraced
from tests.exports import exported
from tests.nets import digits_residual_spec
from tests.onnx_files import quantized
from tests.reports import write_onnx, write_tflite


def test_an_int8_file(capsys: pytest.CaptureFixture[str]) -> None:
    path = exported(OnnxExporter(), quantized(digits_residual_spec)).path
    assert main(["inspect", str(path), "--run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = path.stat().st_size
    runtime = next(line for line in lines if line.startswith("runtime    onnxruntime 1."))
    assert "CPUExecutionProvider took all" in runtime
    assert any(line.startswith("in int8    ") and "100.0% of" in line for line in lines)
    load = next(line for line in lines if line.startswith("load       "))
    assert "resident after it" in load
    assert next(line for line in lines if line.startswith("Metadata ")).endswith(f"{size:,}")
    table = lines.index(next(line for line in lines if line.startswith("layer ")))
    assert all("QLinear" in line or "QGemm" in line for line in lines[table + 1 :])
    assert len(lines) > table + 3


def test_json_has_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_onnx(tmp_path / "small.onnx")
    assert main(["inspect", str(path), "--run", "--json"]) == 0
    raw = json.loads(capsys.readouterr().out)
    run = raw["run"]
    assert run["audit"]["layers"][0]["ran"] == "float"
    assert run["audit"]["macs"] == 8 * 16 * 16 * 27
    assert run["load_ms"] > 0
    assert run["rss_base_bytes"] < run["rss_load_bytes"] <= run["peak_rss_load_bytes"]
    assert run["not_measured"] == {}
    sizes = raw["sizes"]
    parts = sizes["codebook_bytes"] + sizes["graph_bytes"] + sizes["metadata_bytes"]
    assert sizes["fp32_bytes"] + parts == path.stat().st_size == raw["file_bytes"]
    assert set(raw["downloads"]) == {"zip_bytes", "brotli_bytes", "zstd_bytes", "reasons"}


def test_a_tflite_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert.interpreter")
    path = write_tflite(tmp_path / "relu.tflite")
    assert main(["inspect", str(path), "--run"]) == 0
    out = capsys.readouterr().out
    assert "XNNPACK took all 1 operators" in out
    assert "runs       1 RELU" in out


def test_what_cannot_be_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container = write_untraced(sparse_lenet(), tmp_path / "c.dc")
    assert main(["inspect", str(container), "--run"]) == USER_ERROR
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "stock runtime loads .onnx and .tflite; run `edgepress unpack" in err


def test_a_file_that_loads_and_cannot_be_timed_is_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_onnx(tmp_path / "free.onnx", side="S")
    assert main(["inspect", str(path), "--run"]) == 0
    out = capsys.readouterr().out
    assert "not timed: " in out
    assert "has free dimensions" in out
    assert main(["inspect", str(path), "--run", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert run["load_ms"] is None
    assert "free dimensions" in run["not_measured"]["load_ms"]
    assert run["audit"]["macs"] is None


def test_an_operator_that_no_kernel_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1])] for n in "xy"]
    graph = helper.make_graph([helper.make_node("Nonesuch", ["x"], ["y"])], "net", *ends)
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    assert main(["inspect", str(path), "--run"]) == USER_ERROR
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"onnxruntime cannot load {path}" in err


def test_without_brotli_the_line_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx(tmp_path / "small.onnx")
    monkeypatch.setitem(sys.modules, "brotli", None)
    assert main(["inspect", str(path)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("download"))
    assert "zstd; brotli is not installed; run: pip install brotli" in line


def test_a_large_file_waits_for_brotli_only_with_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.zeros(1 << 19, np.float32)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1 << 19])] for n in "xy"]
    graph = helper.make_graph([node], "net", *ends, [numpy_helper.from_array(values, "w")])
    path = tmp_path / "large.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    assert main(["inspect", str(path)]) == 0
    assert "not compressed: the file has more than 1,048,576 bytes" in capsys.readouterr().out
    assert main(["inspect", str(path), "--run"]) == 0
    assert " brotli, " in capsys.readouterr().out
