"""The rule and the words where pictures have no labels, and where a budget is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import ReportError
from targets.advice import advise
from targets.loss import loss_of
from targets.render import render_html, render_markdown
from targets.report import Report, read_report, write_report
from targets.report_row import HeldOut, Row
from tests.reports import make_report, make_row, unmeasured

GAPS = dict.fromkeys(("top1", "top1_fp32", "won", "lost"), "the pictures have no labels")


def unlabelled(row: Row, agreement: float, drop: float) -> Row:
    return replace(
        row,
        top1=None,
        top1_fp32=None,
        won=None,
        lost=None,
        agreement=agreement,
        estimated_drop=drop,
        not_measured={**row.not_measured, **GAPS},
    )


FP32 = unlabelled(make_row("net-fp32.onnx", "fp32", 2_000_000, 0.100, 0.9), 1.0, 0.0)
INT8 = unlabelled(make_row("net-int8.onnx", "int8", 500_000, 0.050, 0.9), 0.963, 0.004)
FOUR = unlabelled(make_row("net-four.onnx", "shared", 250_000, 0.100, 0.9), 0.57, 0.20)


def report(*rows: Row, budget: int | None = None) -> Report:
    return replace(
        make_report(*rows), budget_bytes=budget, scored_on="selection pictures", max_drop=0.01
    )


def test_without_labels_the_estimate_is_held_against_the_limit() -> None:
    advice = advise(report(FP32, INT8, FOUR))
    assert advice.ship is INT8
    assert "the original's answer on 96.30 % of the pictures" in advice.sentence
    assert "−0.40 points, estimated without labels" in advice.sentence
    (left,) = advice.rejected
    assert left.reason == "loses an estimated 20.00 points of top-1, 1.00 are allowed"
    assert "estimated: the pictures have no labels" in advice.rule
    assert any(note.startswith("The pictures have no labels") for note in advice.notes)


def test_labels_come_before_the_estimate() -> None:
    both = replace(make_row("q.onnx", "int8", 9, 0.05, 0.98), agreement=0.9, estimated_drop=0.0)
    assert loss_of(both) == pytest.approx(0.9919 - 0.98)
    assert loss_of(FOUR) == 0.20
    assert loss_of(make_row("q.onnx", "int8", 9, 0.05, 0.9)) == pytest.approx(0.0919)


def test_where_nothing_passes_the_nearest_is_told() -> None:
    advice = advise(report(FP32, FOUR, replace(INT8, estimated_drop=0.03)))
    assert advice.ship is FP32
    (note,) = [note for note in advice.notes if note.startswith("Nearest")]
    assert "net-int8.onnx" in note
    assert "3.00 points" in note


def test_a_budget_asks_for_the_most_faithful_file_within_it() -> None:
    """File bytes are twice the download in these rows."""
    rows = (FP32, INT8, FOUR)
    advice = advise(report(*rows, budget=1_000_000))
    assert advice.ship is INT8
    assert "the most faithful file of at most 1.00 MB" in advice.sentence
    assert advise(report(*rows, budget=999_999)).ship is FOUR
    everything = advise(report(*rows, budget=5_000_000))
    assert everything.ship is FP32
    assert everything.sentence.endswith("it fits as it is.")
    nothing = advise(report(*rows, budget=100_000))
    assert nothing.ship is None
    assert nothing.sentence.startswith("Ship nothing yet: no file passes; net-four.onnx: has 500")
    assert any(note.startswith("Nearest came net-four.onnx") for note in nothing.notes)


def test_a_packed_file_is_timed_against_its_own_runtime() -> None:
    other = replace(FP32, path="net.tflite", sha256="0" * 64, format="tflite", runtime="litert 2")
    fast = replace(other, latency_ms=replace(INT8.latency_ms, median=0.05, p10=0.04, p90=0.06))  # type: ignore[type-var]
    packed = replace(INT8, format="onnx-packed", path="net.packed.onnx")
    slow = replace(packed, latency_ms=FP32.latency_ms)
    advice = advise(report(FP32, fast, slow))
    assert advice.ship is slow
    assert advice.reference is FP32


def test_a_container_is_never_the_file_to_load() -> None:
    smallest = unmeasured(replace(INT8, format="dc", path="net.dc", sha256="1" * 64), "no runtime")
    small = replace(smallest, download_bytes=1000)
    advice = advise(report(FP32, INT8, small))
    assert advice.ship is INT8
    (note,) = [note for note in advice.notes if "net.dc" in note]
    assert "`edgepress unpack` makes an .onnx of it" in note
    lossy = advise(report(FP32, INT8, replace(small, estimated_drop=0.5)))
    assert not [note for note in lossy.notes if "net.dc" in note]


def test_renderings_speak_of_agreement_and_keep_all(tmp_path: Path) -> None:
    held = HeldOut(0.53, 0.534, 500, 5, 7)
    noted = replace(report(FP32, replace(INT8, held_out=held)), notes=("Assumed <this>.",))
    write_report(noted, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == noted
    for text in (render_html(noted), render_markdown(noted)):
        assert "96.30 %" in text
        assert "est. −0.40 points" in text
        assert "53.00 %" in text
        assert "5 won, 7 lost" in text
        assert "Assumed &lt;this&gt;." in text
        assert "Top-1 on" not in text
        assert "10,000 selection pictures" in text
    assert "Agreement with the original against size" in render_html(noted)


def test_shares_out_of_range_are_refused() -> None:
    with pytest.raises(ReportError, match=r"agreement is 1\.5"):
        replace(INT8, agreement=1.5)
    with pytest.raises(ReportError, match="held_out has top1 2"):
        HeldOut(2.0, 0.5, 10, 1, 1)
    with pytest.raises(ReportError, match="budget_bytes is 0"):
        report(FP32, budget=0)
