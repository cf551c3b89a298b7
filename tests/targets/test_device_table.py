"""The table of files by target: what is time, what is a count, what is neither."""

from __future__ import annotations

from dataclasses import replace

from targets.device_results import DeviceResult
from targets.render import TABLES
from targets.report import Report
from tests.reports import make_report, make_row, sha


def result(path: str, target: str, **known: object) -> DeviceResult:
    return DeviceResult(path, sha(path), target, 1, runtime="r", provider="p", **known)  # type: ignore[arg-type]


def reports() -> list[Report]:
    plain = replace(make_row("a-fp32.onnx", "fp32", 9000, 2.0, 0.99), sha256=sha("a-fp32.onnx"))
    small = replace(make_row("a-int8.onnx", "int8", 900, 1.0, 0.99), sha256=sha("a-int8.onnx"))
    counted = {"provenance": "emulated", "untimed": "emulated"}
    found = (
        result("a-fp32.onnx", "qemu:x", instructions=20_000_000, **counted),
        result("a-int8.onnx", "qemu:x", instructions=5_000_000, ratio=0.25, **counted),
        result("a-fp32.onnx", "ssh:board", provenance="measured", median_ms=8.0),
        result(
            *("a-int8.onnx", "local+webgpu"),
            provenance="measured",
            untimed="software adapter S",
            same_class=1.0,
            nodes=10,
            cpu_nodes=3,
            copies=4,
        ),
    )
    alone = make_report(make_row("never.onnx", "fp32", 9000, 2.0, 0.99))
    return [replace(make_report(plain, small), elsewhere=found), alone]


def test_times_first_counts_last_and_a_reason_where_there_is_neither() -> None:
    head, _, *lines = TABLES["devices"](reports()).strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines)]
    assert cells[0][2:] == [
        "local, 1 thread",
        "ssh:board, 1 thread",
        "local+webgpu, 1 thread",
        "qemu:x, million instructions (emulated)",
    ]
    assert [row[1] for row in cells[1:]] == ["a-fp32.onnx", "a-int8.onnx"]
    assert cells[1][3:] == ["8.00 ms", "—", "20.00"]
    assert cells[2][3:] == [
        "—",
        "same class 100.00 %, 3 of 10 nodes on the processor, 4 copies",
        "5.00 (0.250)",
    ]
