"""Logs of benches made into a table, on whatever machine and without the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.errors import OutputError
from targets.bench import Job
from targets.bench_log import BenchLog
from targets.bench_logged import logged_table, measurements
from targets.devices.local import LocalDevice
from targets.measurement import Plan, Target
from tests.reports import sha

PLAN = Plan(runs=3, rounds=3)


def answer(ms: float, **more: Any) -> dict[str, Any]:
    known = {
        "runtime": "onnxruntime",
        "version": "1.31",
        "provider": "P",
        "load_ns": 5_000_000,
        "first_ns": 1,
        "times_ns": [round(ms * 1e6)] * 3,
        "warmup": 4,
        "settled": True,
        "peak_rss_bytes": 9_000_000,
        "peak_rss_load_bytes": 8_000_000,
        "rss_base_bytes": 1,
        "rss_load_bytes": 2,
        "environment": {"cpu": "Some CPU", "load_average": 0.1},
        "untimed": None,
        "throttled": None,
        "clocks": [{"clock_mhz": None, "held_down": None, "temperature_c": None}] * 2,
    }
    return {**known, **more}


def job(name: str, engine: str = "cpu") -> Job:
    return Job(Path(name), sha(name), Target(LocalDevice(), 2, engine), name)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two files on a card, one of them also on the processor; the outputs of one were asked for."""
    path = tmp_path / "bench.jsonl"
    kept = BenchLog(path)
    card = {
        "adapter": "Card 9",
        "nodes": {"CUDA": 8, "CPU": 2},
        "cpu_nodes": {"Pad": 2},
        "copies": {"MemcpyToHost": 1, "MemcpyFromHost": 3},
    }
    kept.append(job("a.onnx", "cuda"), PLAN, "outputs", {"largest": 0.1})
    for part, ms in enumerate((2.0, 2.01, 1.99)):
        on_card = {"accelerator": card, "resident_ns": [1_500_000]}
        kept.append(job("a.onnx", "cuda"), PLAN, part, answer(ms, **on_card))
        kept.append(job("b.onnx", "cuda"), PLAN, part, answer(2 * ms + part / 100))
        kept.append(job("b.onnx"), PLAN, part, answer(9.0))
    return path


def test_a_log_is_a_table_beside_the_first_file_of_its_target(log: Path) -> None:
    _, _, *lines = logged_table([measurements(log)]).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == [
        *("a.onnx", "local+cuda, 2 threads", "Card 9", "2.00 ms", "1.50 ms", "—"),
        *("2 of 10 nodes, 4 copies", "5.00 ms", "9.00 MB"),
    ]
    assert rows[1][3].startswith("4.0")
    assert rows[1][5].startswith("2.0")
    assert r"\[" in rows[1][5]  # three processes tell an interval
    assert rows[2] == [
        *("b.onnx", "local, 2 threads", "Some CPU", "9.00 ms", "—", "—", "—", "5.00 ms", "9.00 MB")
    ]


def test_what_is_no_log_or_damaged_is_one_line(log: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not there"):
        measurements(tmp_path / "none.jsonl")
    line = json.loads(log.read_text().splitlines()[1])
    for damage in ({"key": "[]"}, {"key": "no JSON"}, {"answer": {"runtime": "r"}}):
        (tmp_path / "bad.jsonl").write_text(json.dumps({**line, **damage}) + "\n")
        with pytest.raises(OutputError, match="has a damaged line"):
            measurements(tmp_path / "bad.jsonl")
