"""Logs of benches made into a table, on whatever machine and without the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.errors import OutputError
from targets.bench import Job
from targets.bench_log import BenchLog
from targets.bench_log_table import log_table
from targets.devices.local import LocalDevice
from targets.devices.naming import target_named
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


def job(name: str, engine: str = "cpu", cpus: tuple[int, ...] = ()) -> Job:
    return Job(Path(name), sha(name), Target(LocalDevice(), 2, engine, cpus), name)


def cells(path: Path) -> list[list[str]]:
    _, _, *lines = log_table([path]).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


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
    rows = cells(log)
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


def test_only_what_was_measured_alike_is_compared(log: Path) -> None:
    kept = BenchLog(log)
    kept.append(job("b.onnx", cpus=(4, 5)), PLAN, 0, answer(3.0, throttled=True))
    kept.append(job("b.onnx"), Plan(runs=9), 0, answer(4.0, settled=False))
    rows = cells(log)[3:]
    assert [row[1] for row in rows] == ["local, 2 threads, on 4, 5", "local, 2 threads"]
    assert [row[3] for row in rows] == ["3.00 ms, the clock fell", "4.00 ms, not warm"]
    assert [row[5] for row in rows] == ["—", "—"]


def test_of_two_machines_or_runtimes_the_latter_stands_alone(log: Path) -> None:
    """A bench repeated after an upgrade, and stopped after its first process."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    first = next(line for line in lines if line["part"] == 0)
    newer = {**first, "here": ["Other CPU"], "answer": answer(5.0)}
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, newer]))
    assert cells(log)[0][2:4] == ["Some CPU", "5.00 ms"]


def test_what_is_no_latency_says_what_it_is(tmp_path: Path) -> None:
    kept = BenchLog(tmp_path / "log.jsonl")
    qemu = Target(target_named("qemu:cortex-a53").device)
    for name, count in (("a.onnx", 4000), ("b.onnx", 1000)):
        counted = answer(1.0, untimed="emulated", counts=[{"insns": count}], times_ns=[])
        kept.append(Job(Path(name), sha(name), qemu, name), PLAN, 0, counted)
    software = answer(1.0, untimed="software adapter", times_ns=[])
    kept.append(job("a.onnx", "webgpu"), PLAN, 0, software)
    rows = cells(tmp_path / "log.jsonl")
    assert [row[3] for row in rows] == [
        "4,000 instructions",
        "1,000 instructions",
        "software adapter",
    ]
    assert [row[5] for row in rows] == ["—", "0.250", "—"]
    assert {row[7] for row in rows} == {"—"}


def test_what_is_no_log_or_damaged_is_one_line(log: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not there"):
        log_table([tmp_path / "none.jsonl"])
    line = json.loads(log.read_text().splitlines()[1])
    whole = line["answer"]
    for damage in (
        {"key": "[]"},
        {"key": "no JSON"},
        {"answer": {"runtime": "r"}},
        {"answer": {**whole, "times_ns": []}},
        {"answer": {**whole, "accelerator": {"nodes": 5, "cpu_nodes": 6}}},
    ):
        (tmp_path / "bad.jsonl").write_text(json.dumps({**line, **damage}) + "\n")
        with pytest.raises(OutputError, match="has a damaged line"):
            log_table([tmp_path / "bad.jsonl"])
