"""The runner, run as it runs on a device: one file, one process, one JSON line."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targets import runner
from tests.reports import write_onnx, write_tflite

RUNNER = Path(runner.__file__)


def ask(request: object, script: Path = RUNNER) -> tuple[int, list[str]]:
    text = request if isinstance(request, str) else json.dumps(request)
    done = subprocess.run(
        [sys.executable, str(script), text], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.splitlines()


def test_it_imports_nothing_of_ours() -> None:
    """It is pushed to devices as one file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(RUNNER.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names <= {*sys.stdlib_module_names, "numpy"}


def test_times_a_file_from_any_folder(tmp_path: Path) -> None:
    """A copy elsewhere works, and answers with everything that a Measurement needs."""
    script = Path(shutil.copy(RUNNER, tmp_path / "pushed.py"))
    net = write_onnx(tmp_path / "net.onnx")
    status, lines = ask({"path": str(net), "runs": 7, "threads": 2, "warmup_s": 0.3}, script)
    assert status == 0
    assert len(lines) == 1
    answer: dict[str, Any] = json.loads(lines[0])
    assert answer["runtime"] == "onnxruntime"
    assert answer["provider"] == "CPUExecutionProvider"
    assert answer["spinning"] is False
    assert answer["threads"] == 2
    assert len(answer["times_ns"]) == 7
    assert min(answer["times_ns"]) > 0
    assert answer["load_ns"] > 100_000
    assert answer["warmup"] >= 10
    assert answer["environment"]["cores"] >= 1


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_times_a_tflite_file_of_any_input_type(tmp_path: Path, kind: str) -> None:
    net = write_tflite(tmp_path / "net.tflite", kind)
    status, lines = ask({"path": str(net), "runs": 4, "warmup_s": 0.1})
    answer = json.loads(lines[-1])
    assert (status, len(answer.get("times_ns", []))) == (0, 4), answer
    assert answer["runtime"] in ("ai_edge_litert", "tflite_runtime")
    assert answer["version"][0].isdigit()
    assert answer["provider"] in ("XNNPACK", "built-in kernels")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_memory_is_that_of_its_own_process(tmp_path: Path) -> None:
    """ru_maxrss would be inherited from a large parent; the peak lies above the base."""
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"\1" * len(ballast[:: 1 << 12])
    net = write_onnx(tmp_path / "net.onnx")
    _, lines = ask({"path": str(net), "runs": 3, "warmup_s": 0.05})
    answer = json.loads(lines[0])
    assert answer["rss_base_bytes"] < answer["peak_rss_bytes"] < 250 << 20
    assert answer["peak_rss_load_bytes"] <= answer["peak_rss_bytes"]
    assert answer["rss_base_bytes"] < answer["rss_load_bytes"] <= answer["peak_rss_load_bytes"]
    assert len(ballast) == 300 << 20


def test_stops_after_the_time_it_is_given(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx", width=64, side=96)
    _, lines = ask({"path": str(net), "runs": 1_000_000, "max_s": 0.2, "warmup_s": 0.2})
    assert 3 <= len(json.loads(lines[0])["times_ns"]) < 100_000


def test_warm_up_ends_when_two_windows_agree_or_at_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scripted clock: windows of five calls at 100, 200, 100, 200, ... ns never agree."""
    calls: list[int] = []

    def scripted(call: object) -> int:
        del call
        calls.append(0)
        return 100 + 100 * ((len(calls) - 1) // 5 % 2)

    monkeypatch.setattr(runner, "_timed", scripted)
    count, settled = runner._warm_up(lambda: None, 0.05)
    assert not settled
    assert count == len(calls) > 10
    monkeypatch.setattr(runner, "_timed", lambda _: 100)
    assert runner._warm_up(lambda: None, 5.0)[1]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.onnx", None, "FileNotFoundError"),
        ("corrupt.onnx", b"not a protobuf at all", "error"),
        ("empty.onnx", b"", "error"),
        ("corrupt.tflite", b"TFL3 but not really", "error"),
        ("net.dc", b"anything", "neither .onnx nor .tflite"),
    ],
)
def test_a_bad_file_is_one_json_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    status, lines = ask({"path": str(path)})
    assert status == 1
    assert len(lines) == 1
    answer = json.loads(lines[0])
    assert set(answer) == {"error"}
    assert says in lines[0]


@pytest.mark.parametrize("request_", ["{", "[]", '{"runs": 3}', '{"path": "a.onnx", "gpu": 1}'])
def test_a_bad_request_is_one_json_line(request_: str) -> None:
    status, lines = ask(request_)
    assert status == 1
    assert "error" in json.loads(lines[0])


def test_free_dimensions_beyond_the_batch_are_refused(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx", side="S")
    status, lines = ask({"path": str(net)})
    assert status == 1
    assert "free dimensions" in json.loads(lines[0])["error"]
