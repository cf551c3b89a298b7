"""A report's files on further targets: measured once, and what could not be is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compress.errors import DeviceError
from compress.spec import TensorSpec
from recipes.toolbox.elsewhere import BENCH, Elsewhere, named_targets, with_targets
from targets.artifact import Artifact, file_sha256
from targets.markdown import document
from targets.measurement import Plan, Target
from targets.page import page
from targets.report import read_report, write_report
from targets.runtimes.litert import LiteRtRuntime
from tests.reports import make_report, make_row, sha, write_onnx, write_tflite
from tests.scripted_device import ANSWER, ScriptedDevice

PLAN = Plan(runs=3, rounds=2, warmup_s=0.05, max_s=0.1)


def artifact(path: Path) -> Artifact:
    spec = (TensorSpec("x", (1, 3, 16, 16)),)
    return Artifact(path, "onnx", "fp32", file_sha256(path), 1, spec, spec, sha("c"))


def test_a_report_says_what_each_board_measured_and_what_it_could_not(tmp_path: Path) -> None:
    files = [artifact(write_onnx(tmp_path / f"{name}.onnx", width=w)) for name, w in PAIRS]
    board = ScriptedDevice(ANSWER, name="ssh:board", provenance="measured")
    dead = ScriptedDevice(ANSWER, name="ssh:dead", provenance="measured", lives=0)
    report = make_report(make_row("a.onnx", "fp32", 9000, 2.0, 0.99))
    targets = (Target(board, 2), Target(dead))
    found = with_targets(report, files, Elsewhere(targets), PLAN, tmp_path / BENCH)
    assert [(r.path, r.target, r.threads) for r in found.elsewhere] == [
        ("a.onnx", "ssh:board", 2),
        ("b.onnx", "ssh:board", 2),
    ]
    assert "a.onnx on ssh:dead: ssh:dead does not answer; plug it in again" in found.not_measured
    write_report(found, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == found
    for text in (document(found), page(found)):
        assert "On other targets" in text
        assert "ssh:board, 2 threads" in text

    again = ScriptedDevice(ANSWER, name="ssh:board", provenance="measured")
    same = with_targets(report, files, Elsewhere((Target(again, 2),)), PLAN, tmp_path / BENCH)
    assert again.seen == []
    assert same.elsewhere == found.elsewhere


PAIRS = (("a", 4), ("b", 5))


def test_without_targets_the_report_stays_as_it_is(tmp_path: Path) -> None:
    report = make_report(make_row("a.onnx", "fp32", 9000, 2.0, 0.99))
    assert with_targets(report, [], Elsewhere(), PLAN, tmp_path / BENCH) is report
    assert not (tmp_path / BENCH).exists()
    assert "On other targets" not in page(report)


def test_outputs_on_another_engine_stand_beside_the_processors(tmp_path: Path) -> None:
    files = [
        artifact(write_onnx(tmp_path / "a.onnx")),
        replace(artifact(write_tflite(tmp_path / "a.tflite")), format="tflite"),
    ]
    report = make_report(make_row("a.onnx", "fp32", 9000, 2.0, 0.99))
    side = LiteRtRuntime().load(tmp_path / "a.tflite").inputs[0].shape[1:3]
    pictures = np.random.default_rng(0).normal(size=(3, 3, *side)).astype(np.float32)
    wanted = Elsewhere(tuple(named_targets(["local+plain"], (1, 2))), pictures)
    found = with_targets(report, files, wanted, PLAN, tmp_path / BENCH)
    assert [(r.path, r.threads, r.pictures) for r in found.elsewhere] == [
        ("a.tflite", 1, 3),
        ("a.tflite", 2, 3),
    ]
    for result in found.elsewhere:
        assert result.largest_error is not None
        assert result.outputs_range is not None
        assert result.largest_error <= 1e-5 * result.outputs_range
        assert result.cpu_nodes is None
    log = (tmp_path / BENCH).read_text()
    assert with_targets(report, files, wanted, PLAN, tmp_path / BENCH) == found
    assert (tmp_path / BENCH).read_text() == log
    others = with_targets(
        report, files, replace(wanted, pictures=pictures[:2]), PLAN, tmp_path / BENCH
    )
    assert [r.pictures for r in others.elsewhere] == [2, 2]


def test_targets_that_run_no_file_of_the_report_leave_it_whole(tmp_path: Path) -> None:
    report = make_report(make_row("a.onnx", "fp32", 9000, 2.0, 0.99))
    files = [artifact(write_onnx(tmp_path / "a.onnx"))]
    wanted = Elsewhere(tuple(named_targets(["local+plain"])))
    assert with_targets(report, files, wanted, PLAN, tmp_path / BENCH).elsewhere == ()


def test_each_target_gets_each_number_of_threads_once() -> None:
    found = list(named_targets(["local", "local+plain", "local+cpu"], (1, 2, 1), (0,)))
    assert [(t.name, t.threads, t.cpus) for t in found] == [
        *(("local", 1, (0,)), ("local", 2, (0,))),
        *(("local+plain", 1, (0,)), ("local+plain", 2, (0,))),
    ]
    with pytest.raises(DeviceError):
        list(named_targets(["nowhere"]))
