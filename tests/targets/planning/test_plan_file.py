"""plan.json: read back as written, refused where it is wrong; judged by what files measure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.errors import ReportError
from targets.planning.claims import Verdict
from targets.planning.held import held_note, held_rows
from targets.planning.judging import compared, judged
from targets.planning.plan import (
    Figures,
    Judged,
    Plan,
    PlannedFile,
    PlannedStage,
    read_plan,
    write_plan,
)
from targets.planning.verdicts import Verdicts
from targets.planning.words import mark
from targets.render import render_html, render_markdown
from targets.report import Report, read_report, write_report
from tests.reports import make_report

BEFORE = Figures(1000, 900, 2.0, ((2.0, 2.02), (1.99, 2.01), (2.0, 2.01)), 50_000_000)
AFTER = Figures(400, 300, 1.0, ((1.0, 1.01), (0.99, 1.0), (1.0, 1.0)), 20_000_000)
JUDGED = (
    Judged("file", "yes", "fewer", 0.4, "yes"),
    Judged("latency", "no", "zeros", 0.5, "yes"),
)


def a_plan() -> Plan:
    file = PlannedFile("onnx", "onnxruntime 1.31.1", 1, "net.onnx", BEFORE, params=7, macs=9)
    other = replace(file, path="small.onnx", figures=AFTER, against="net.onnx", verdicts=JUDGED)
    stage = PlannedStage(1, "PruneMagnitude", 0, "PruneMagnitude(0.5)", ("X()",), 0.1, 7, 5, 9)
    return Plan(
        recipe="r",
        net=None,
        seed=0,
        created="2026-01-01T00:00:00+00:00",
        git_commit=None,
        environment={"cpu": "x"},
        cpu="x86 with vnni",
        random=True,
        stages=(PlannedStage(0, "start"), replace(stage, skipped={"too small": 2}, files=(file,))),
        files=(file, other),
        notes=("rough <b>",),
    )


def test_a_plan_reads_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(a_plan(), path)
    assert read_plan(path) == a_plan()
    assert json.loads(path.read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema is 2; this edgepress reads plans of 1"),
        ({"schema": None}, "schema is None"),
        ({"recipe": 3}, "recipe"),
        ({"files": [{"format": "onnx"}]}, "runtime"),
        ({"stages": 1}, "a list is needed"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**json.loads(a_plan().to_json()), **change}))
    with pytest.raises(ReportError, match=said) as error:
        read_plan(path)
    assert "\n" not in str(error.value)
    assert "plan.json" in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"file_bytes": -1},
        {"latency_ms": -1.0},
        {"times_ms": [[]]},
        {"file_bytes": 1e400},
    ],
)
def test_impossible_figures_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    raw = json.loads(a_plan().to_json())
    raw["files"][0]["figures"].update(wrong)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(ReportError):
        read_plan(path)


@pytest.mark.parametrize(
    ("question", "after", "seen"),
    [
        ("file", AFTER, "yes"),
        ("file", replace(BEFORE, file_bytes=990), "no"),
        ("download", replace(BEFORE, download_bytes=2000), "worse"),
        ("latency", AFTER, "yes"),
        ("latency", BEFORE, "no"),
        ("latency", replace(BEFORE, times_ms=((1.0, 1.0), (3.0, 3.0), (2.0, 2.0))), "unclear"),
        ("latency", replace(BEFORE, latency_ms=None), None),
        ("memory", AFTER, "yes"),
        ("memory", replace(BEFORE, memory_bytes=50_100_000), "no"),
        ("memory", replace(BEFORE, memory_bytes=90_000_000), "worse"),
        ("memory", replace(BEFORE, memory_bytes=None), None),
    ],
)
def test_what_two_files_show(question: Any, after: Figures, seen: str | None) -> None:
    assert compared(question, BEFORE, after)[1] == seen


def test_times_that_may_be_worse_are_no_gain() -> None:
    """The interval reaches from little to worse: whatever it is, it is not faster."""
    slower = replace(BEFORE, times_ms=((2.1, 2.1), (2.14, 2.14), (2.12, 2.12)))
    assert compared("latency", BEFORE, slower)[1] == "no"


def test_a_rule_is_confirmed_contradicted_or_left_open() -> None:
    gain, none, open_ = (Verdict(a, "r") for a in ("yes", "no", "perhaps"))  # type: ignore[arg-type]
    found = judged(Verdicts(gain, none, open_, Verdict("not run", "r")), BEFORE, AFTER)
    assert [said.agrees for said in found] == [True, False, None, None]
    assert [mark(said) for said in found] == ["yes ✓", "no ✗", "? yes", "—"]
    unmeasured = judged(Verdicts(gain, none, open_, gain), None, None)
    assert [mark(said) for said in unmeasured] == ["yes", "no", "?", "yes"]
    assert mark(Judged("latency", "yes", "r", 1.0, "unclear")) == "yes ~"
    assert mark(Judged("latency", "perhaps", "r", 1.0, "unclear")) == "? ~"


def planned_report() -> Report:
    """The made-up report, and a plan of its first two files."""
    report = make_report()
    first, second = report.rows[:2]
    file, other = a_plan().files
    file = replace(file, path=first.path, threads=first.threads or 1, macs=first.macs or 0)
    exact = Figures(first.file_bytes, first.download_bytes, 1.0)
    other = replace(other, path=second.path, against=first.path, threads=second.threads or 1)
    missing = replace(other, path="never.onnx")
    plan = replace(a_plan(), files=(replace(file, figures=exact), other, missing))
    return replace(report, planned=plan)


def test_a_report_shows_what_was_predicted_beside_what_was_measured(tmp_path: Path) -> None:
    report = planned_report()
    assert report.planned is not None
    rows = dict(held_rows(report.planned, report.rows))
    first = rows[report.rows[0].path]
    assert first[0].detail == "as said"
    assert first[2].detail == "as said"
    assert rows["never.onnx"][0].detail == "not delivered"
    unplanned = {row.path for row in report.rows[2:]} - {row.path for row in report.rows[:2]}
    assert all(rows[path][0].detail == "not planned" for path in unplanned)
    said = rows[report.rows[1].path][0]
    change = report.rows[1].file_bytes / AFTER.file_bytes - 1
    assert (said.detail, said.second) == ("said 400 B", f"{100 * change:+.1f} %")
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    for text in (render_markdown(report), render_html(report)):
        assert "Predicted before training, and measured" in text
        assert "never.onnx" in text
        assert "rough <b>" not in text  # escaped


def test_a_report_without_a_plan_says_nothing_of_one(tmp_path: Path) -> None:
    report = make_report()
    assert "Predicted" not in render_markdown(report) + render_html(report)
    raw = json.loads(report.to_json())
    raw.pop("planned")  # as reports from before plans are
    path = tmp_path / "report.json"
    path.write_text(json.dumps(raw))
    assert read_report(path) == report


def test_one_process_is_no_proof() -> None:
    once = replace(BEFORE, times_ms=((2.0, 2.0),))
    fast = replace(AFTER, times_ms=((1.0, 1.0),))
    assert compared("latency", once, fast) == (0.5, "unclear")


def test_settings_that_were_not_planned_are_named() -> None:
    report = planned_report()
    assert report.planned is not None
    stages = tuple(
        PlannedStage(i, s.stage, settings=s.settings) for i, s in enumerate(report.steps)
    )
    planned = replace(report.planned, stages=stages)
    assert "changed" not in held_note(planned, report)
    step = replace(report.steps[0], stage="PruneMagnitude", settings="PruneMagnitude(0.1)")
    other = replace(report, steps=(step, *report.steps[1:]), smoke=False)
    assert "has changed since: PruneMagnitude ran with settings" in held_note(planned, other)
    assert "changed" not in held_note(planned, replace(other, smoke=True))
