"""A report's files on further targets: what stands beside what, and what is no latency."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compress.errors import ReportError
from targets.device_results import DeviceResult, device_results, device_rows
from tests.targets.test_bench_table import measured

EMULATED = {"times_ms": ((),), "provenance": "emulated", "untimed": "emulated"}


def test_targets_stand_together_and_emulated_ones_last() -> None:
    counts = {"insns": 4_000_000, "fmla": 1_000_000}
    found = device_results(
        [
            measured("a.onnx", device="qemu:x", instructions=counts, **EMULATED),
            measured("a.onnx", 2.0),
            measured("a.onnx", 8.0, threads=2),
            measured("a.tflite", 4.0),
            measured("b.onnx", device="qemu:x", instructions={"insns": 1_000_000}, **EMULATED),
            measured("b.onnx", 1.0),
            measured("b.tflite", 3.0),
        ]
    )
    assert [(r.path, r.target, r.threads) for r in found] == [
        ("a.onnx", "local", 1),
        ("a.tflite", "local", 1),
        ("b.onnx", "local", 1),
        ("b.tflite", "local", 1),
        ("a.onnx", "local", 2),
        ("a.onnx", "qemu:x", 1),
        ("b.onnx", "qemu:x", 1),
    ]
    assert [r.ratio for r in found] == [None, None, 0.5, 0.75, None, None, 0.25]
    assert found[2].ratio_low == found[2].ratio_high == 0.5
    assert found[-1].ratio_low is None
    assert found[-2].kernels == "fmla 25%"


def test_an_emulated_row_has_no_time_and_no_memory() -> None:
    (row,) = device_results(
        [measured("a.onnx", device="qemu:x", instructions={"insns": 1234567}, **EMULATED)]
    )
    assert (row.median_ms, row.load_ms, row.peak_rss_bytes) == (None, None, None)
    (cells,) = device_rows([row])
    assert cells[:4] == ("a.onnx", "qemu:x, 1 thread", "1,234,567 instructions", "–")
    assert cells[4:6] == ("–", "–")


def test_one_process_has_no_interval() -> None:
    alone = [
        replace(measured(f, t), times_ms=((t,),)) for f, t in (("a.onnx", 2.0), ("b.onnx", 1.0))
    ]
    first, second = device_results(alone)
    assert (first.ratio, second.ratio, second.ratio_low) == (None, 0.5, None)
    assert device_rows([second])[0][3] == "0.500"


def test_a_software_adapter_says_why_it_has_no_time() -> None:
    soft = measured("a.onnx", 5.0, engine="webgpu", untimed="software adapter SwiftShader")
    (row,) = device_results([soft])
    assert row.median_ms is None
    assert "software adapter SwiftShader" in device_rows([row])[0][-1]


def test_numbers_that_cannot_be_are_refused() -> None:
    (row,) = device_results([measured("a.onnx", 2.0)])
    for wrong in ({"median_ms": -1.0}, {"threads": 0}, {"instructions": -1}):
        with pytest.raises(ReportError, match=r"a\.onnx on local: numbers from 0"):
            replace(row, **wrong)
    assert isinstance(row, DeviceResult)
