"""Fewer operations beside less time: which files are compared, and with what."""

from __future__ import annotations

from dataclasses import replace

from targets.operations import COLUMNS, operation_rows
from targets.render import render_html, render_markdown
from targets.report_row import Row
from tests.reports import make_report, make_row, unmeasured

FP32 = make_row("net-fp32.onnx", "fp32", 1_600_000, 0.100, 0.9919)


def thin(path: str, macs: int, times: tuple[tuple[float, ...], ...]) -> Row:
    row = make_row(path, "fp32", 900_000, sorted(times[0])[len(times[0]) // 2], 0.99)
    return replace(row, method="channels", macs=macs, times_ms=times)


def test_both_ratios_with_the_interval_and_the_part() -> None:
    assert FP32.macs is not None
    base = replace(FP32, times_ms=((0.1,) * 3, (0.1,) * 3, (0.1,) * 3))
    half = thin("net-thin.onnx", FP32.macs // 2, ((0.06,) * 3, (0.061,) * 3, (0.059,) * 3))
    ((path, macs, fewer, faster, interval, part, where),) = operation_rows([base, half])
    assert (path, macs, fewer) == ("net-thin.onnx", f"{FP32.macs // 2:,}", "2.00×")
    assert faster == "1.67×"
    assert interval == "1.55–1.79"
    assert part == "0.83 (0.77–0.90)"
    assert where == "onnxruntime 1.31.1, 1 thread"
    assert len(COLUMNS) == 7


def test_only_timed_files_of_the_same_precision_with_fewer_operations() -> None:
    assert FP32.macs is not None
    fewer = replace(make_row("a.onnx", "fp32", 9, 0.05, 0.9), method="svd", macs=FP32.macs - 1)
    int8 = replace(fewer, precision="int8", path="b.onnx")
    same = replace(fewer, macs=FP32.macs, path="c.onnx")
    rows = [FP32, unmeasured(fewer), int8, same]
    assert operation_rows(rows) == []
    assert [cells[0] for cells in operation_rows([*rows, fewer])] == ["a.onnx"]
    report = make_report(*rows, fewer)
    for render in (render_html, render_markdown):
        assert "Operations and time" in render(report)
        assert "Operations and time" not in render(make_report(*rows))
