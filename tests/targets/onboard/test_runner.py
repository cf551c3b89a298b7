"""The runner, run as it runs on a device: one file, one process, one JSON line at the end."""

from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targets import onboard
from targets.onboard import timing
from targets.runner_file import runner_bytes, runner_file
from tests.reports import write_onnx, write_tflite

OURS = ("compress", "targets", "recipes", "tests")
SOURCES = sorted(Path(onboard.__file__).parent.glob("*.py"))


def ask(request: object, script: Path | None = None) -> tuple[int, list[str]]:
    text = request if isinstance(request, str) else json.dumps(request)
    done = subprocess.run(
        [sys.executable, str(script or runner_file()), text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.strip().splitlines()


def imported(source: Path) -> tuple[set[str], set[str]]:
    """(top-level names imported absolutely by statement, all names given to import_module)."""
    statements: set[str] = set()
    calls: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            statements |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            statements.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            calls.add(ast.unparse(node.args[0]))
    return statements, calls


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_it_imports_nothing_of_ours(source: Path) -> None:
    """Absolutely: the pushed package has another name. Runtimes are imported when asked for.

    One module reads containers and runs where edgepress is installed; no other may follow it.
    """
    statements, calls = imported(source)
    assert statements <= {*sys.stdlib_module_names, "numpy"}
    ours = {name for name in calls if name.strip("'\"").partition(".")[0] in OURS}
    own = {"'targets.formats.deep_compression'"} if source.stem == "torch_eager" else set()
    assert ours == own


def test_what_is_imported_late_is_named_in_the_code() -> None:
    """Where it is not a literal, it is a runtime's name or a module of this package."""
    late = {call for source in SOURCES for call in imported(source)[1]}
    assert late == {
        *("'torch'", "'onnxruntime'", "'targets.formats.deep_compression'", "_PLUGIN"),
        *("f'{package}.interpreter'", "f'{_PACKAGE}.compiled_model'", "f'{__package__}.{module}'"),
    }


def test_the_file_is_named_by_its_contents_and_made_anew_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = runner_file()
    assert path.parent == tmp_path / "edgepress"
    assert path.read_bytes() == runner_bytes()
    path.write_bytes(b"cut short")
    assert runner_file() == path
    assert path.read_bytes() == runner_bytes()


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgepress").write_text("a file in its place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, lines = ask({"describe": True})
    assert status == 0
    assert json.loads(lines[-1])["end"] == "edgepress"


def test_it_describes_its_machine() -> None:
    status, lines = ask({"describe": True})
    answer = json.loads(lines[-1])
    assert status == 0
    assert answer["python"] == platform.python_version()
    assert answer["machine"] == platform.machine()


def test_times_a_file_from_any_folder(tmp_path: Path) -> None:
    """A copy elsewhere works, and answers with everything that a Measurement needs."""
    script = Path(shutil.copy(runner_file(), tmp_path / "pushed.pyz"))
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
    assert answer["untimed"] is None
    assert len(answer["clocks"]) == 2
    assert answer["end"] == "edgepress"


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_times_a_tflite_file_of_any_input_type(tmp_path: Path, kind: str) -> None:
    net = write_tflite(tmp_path / "net.tflite", kind)
    status, lines = ask({"path": str(net), "runs": 4, "warmup_s": 0.1})
    answer = json.loads(lines[-1])
    assert (status, len(answer.get("times_ns", []))) == (0, 4), answer
    assert answer["runtime"] in ("ai_edge_litert", "tflite_runtime")
    assert answer["version"][0].isdigit()
    assert answer["provider"] in ("XNNPACK", "built-in kernels")


def test_xnnpack_can_be_left_out(tmp_path: Path) -> None:
    net = write_tflite(tmp_path / "net.tflite", "FLOAT32")
    found = [
        json.loads(ask({"path": str(net), "runs": 3, "warmup_s": 0.05, "engine": engine})[1][-1])
        for engine in ("cpu", "plain")
    ]
    assert [answer["provider"] for answer in found] == ["XNNPACK", "built-in kernels"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process")
def test_it_stays_on_the_cpus_it_is_given(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    last = max(os.sched_getaffinity(0))
    _, lines = ask({"path": str(net), "runs": 3, "warmup_s": 0.05, "cpus": [last]})
    assert json.loads(lines[-1])["environment"]["cpus"] == str(last)
    for cpus in ([4095], [last, 4095]):
        status, lines = ask({"path": str(net), "cpus": cpus})
        assert status == 1
        assert f"cannot pin to cpus {cpus}; there are " in json.loads(lines[-1])["error"]


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

    monkeypatch.setattr(timing, "timed", scripted)
    count, settled = timing.warm_up(lambda: None, 0.05)
    assert not settled
    assert count == len(calls) > 10
    monkeypatch.setattr(timing, "timed", lambda _: 100)
    assert timing.warm_up(lambda: None, 5.0)[1]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.onnx", None, "FileNotFoundError"),
        ("corrupt.onnx", b"not a protobuf at all", "error"),
        ("empty.onnx", b"", "error"),
        ("corrupt.tflite", b"TFL3 but not really", "error"),
        ("net.bin", b"anything", "neither .dc nor .onnx nor .tflite"),
        ("net.dc", b"anything", "no engine 'cpu' runs .dc files; there are: torch, torch-cuda"),
        ("net.tflite", b"anything", "no engine 'gpu' runs .tflite files; there are: cpu"),
    ],
)
def test_a_bad_file_is_one_json_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    engine = "gpu" if "'gpu'" in says else "cpu"
    status, lines = ask({"path": str(path), "engine": engine})
    assert status == 1
    assert len(lines) == 1
    answer = json.loads(lines[0])
    assert set(answer) == {"error", "end"}
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
