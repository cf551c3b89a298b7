"""The table of a bench: times and counts apart, nothing printed as a latency that is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from targets.bench_table import table
from targets.measurement import Measurement
from tests.reports import make_measurement


def measured(file: str, *times: float, **settings: object) -> Measurement:
    """The same times in each of three processes."""
    return make_measurement(file, *[times] * 3, **settings)


def test_ratios_are_to_the_first_file_of_the_same_target() -> None:
    lines = table(
        [
            measured("a.onnx", 2.0),
            measured("b.onnx", 1.0),
            measured("a.onnx", 8.0, device="ssh:board"),
            measured("b.onnx", 2.0, device="ssh:board"),
        ]
    ).splitlines()
    assert lines[0].split("  ")[0] == "file"
    assert "0.50 [0.50, 0.50]" in lines[2]
    assert "0.25 [0.25, 0.25]" in lines[4]
    assert "[" not in lines[1] + lines[3]
    assert "12 MB" in lines[1]


def test_counts_stand_apart_from_times_and_below() -> None:
    counts = {"insns": 2_000_000, "sdot": 500_000, "fmla": 19_999}
    emulated = {"times_ms": ((),), "provenance": "emulated", "untimed": "emulated"}
    found = [
        measured("a.onnx", device="qemu:x", instructions=counts, **emulated),
        measured("b.onnx", device="qemu:x", instructions={"insns": 500_000}, **emulated),
        measured("a.onnx", 2.0),
    ]
    lines = table(found).splitlines()
    assert lines[1].split()[:2] == ["a.onnx", "local"]
    assert "instructions" in lines[2]
    assert "target (emulated)" in lines[2]
    assert lines[3].split() == ["a.onnx", "qemu:x", "2,000,000", "sdot", "25%"]
    assert lines[4].split() == ["b.onnx", "qemu:x", "500,000", "0.250"]
    assert "ms" not in "".join(lines[2:])


def test_a_software_adapter_gets_a_reason_and_no_number() -> None:
    soft = measured("a.onnx", 5.0, engine="webgpu", untimed="software adapter SwiftShader")
    lines = table([soft]).splitlines()
    assert lines == [
        "file    target        no latency",
        "a.onnx  local+webgpu  software adapter SwiftShader",
    ]


def test_what_an_accelerator_left_to_the_processor_is_told() -> None:
    placed = {
        "adapter": "A",
        "nodes": {"WebGpuExecutionProvider": 143, "CPUExecutionProvider": 43},
        "cpu_nodes": {"QLinearConv": 26, "Concat": 17},
        "copies": {"MemcpyFromHost": 40, "MemcpyToHost": 43},
    }
    told = "43 of 186 nodes on the processor (17 Concat, 26 QLinearConv), 83 copies between"
    gpu = measured("a.onnx", 5.0, engine="webgpu", accelerator=placed, resident_ms=4.0)
    resident = f"{told}, 4.000 ms with the input in its memory already"
    assert table([gpu]).splitlines()[-1] == f"a.onnx on local+webgpu: {resident}"
    soft = replace(gpu, untimed="software adapter")
    assert table([soft]).splitlines()[-1] == f"a.onnx on local+webgpu: {told}"
    silent = replace(soft, accelerator={"adapter": "A", "cpu_nodes": {}, "copies": None})
    assert "processor" not in table([silent])


def test_a_row_that_is_no_fact_says_so() -> None:
    loud = table([measured("a.onnx", 1.0, 1.0, 2.0, 2.0)])
    assert "noisy: a.onnx on local at 1 thread(s): spread 67% of the median" in loud
    fell = table([measured("a.onnx", 1.0, 1.0, throttled=True)])
    assert "noisy: a.onnx on local at 1 thread(s): the clock fell while it was measured" in fell
    assert "noisy" not in table([measured("a.onnx", 1.0, 1.0, throttled=False)])


@pytest.mark.parametrize("processes", [1, 2])
def test_too_few_processes_give_a_ratio_without_an_interval(processes: int) -> None:
    few = {"times_ms": ((1.0, 1.0),) * processes}
    row = table([measured("a.onnx", **few), measured("b.onnx", **few)]).splitlines()[2]
    assert "1.00" in row
    assert "[" not in row
