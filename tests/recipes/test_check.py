"""edgepress check: each criterion passes and fails where it should, with its exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from recipes.classifying.changes import Change, Comparison
from recipes.commands import check
from recipes.toolbox.criteria import (
    Criterion,
    bytes_criterion,
    drop_criterion,
    latency_criterion,
)
from targets.measurement import Measurement
from tests.recipes.answering import (
    BAD_MODELS,
    PICTURES,
    folder,
    fp32_file,
    int8_file,
    logits,
    refused,
    sample,
    spoilt_container,
    spoilt_file,
    told,
)
from tests.reports import make_measurement


def test_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    size = int8_file().stat().st_size
    out = told(capsys, "check", int8_file(), "--max-bytes", size)
    assert out.startswith("passed  bytes: ")
    assert f"({size:,})" in out
    assert told(capsys, "check", int8_file(), "--max-bytes", "1MiB").startswith("passed")
    out = told(capsys, "check", int8_file(), "--max-bytes", size - 1, status=1)
    assert out.startswith("failed  bytes: ")
    assert len(out.splitlines()) == 1


def test_a_container_counts_its_own_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    size = spoilt_container().stat().st_size
    assert size < spoilt_file().stat().st_size
    told(capsys, "check", spoilt_container(), "--max-bytes", size)
    told(capsys, "check", spoilt_container(), "--max-bytes", size - 1, status=1)


def test_data_beside_the_file_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    options = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(onnx.load(fp32_file()), path, **options)
    size = path.stat().st_size + (tmp_path / "net.data").stat().st_size
    told(capsys, "check", path, "--max-bytes", size)
    told(capsys, "check", path, "--max-bytes", size - 1, status=1)


def right(path: Path) -> np.ndarray:
    return logits(path).argmax(1) == sample().labels


def test_drop_on_labelled_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = right(fp32_file()), right(spoilt_file())
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    assert lost - won > 3
    drop = (lost - won) / PICTURES
    asked = ("check", spoilt_file(), "--against", fp32_file(), "--images", folder(), "--max-drop")
    out = told(capsys, *asked, "2%", status=1)
    assert out.startswith(f"failed  top-1 drop: {100 * drop:.2f} points ")
    assert f"{before.sum()} -> {after.sum()} right of {PICTURES} labelled pictures" in out
    assert f"{lost} lost, {won} won" in out
    assert "2.00 points allowed" in out
    found = json.loads(told(capsys, *asked, "99%", "--json"))
    (criterion,) = found["criteria"]
    assert found["passed"] is criterion["passed"] is True
    assert criterion["found"] == pytest.approx(drop)
    assert criterion["interval"][0] < drop < criterion["interval"][1]


def test_without_labels_changed_answers_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    changed = int((logits(spoilt_file()).argmax(1) != logits(fp32_file()).argmax(1)).sum())
    asked = ("check", spoilt_file(), "--against", fp32_file(), "--images", folder(labelled=False))
    out = told(capsys, *asked, "--max-drop", "1%", status=1)
    assert out.startswith(f"failed  changed answers: {100 * changed / PICTURES:.2f} % ({changed} ")
    assert f"of {PICTURES} pictures without labels" in out
    told(capsys, *asked, "--max-drop", "99%")


def test_all_three_criteria_by_the_real_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("check", spoilt_container(), "--against", fp32_file(), "--images", folder())
    out = told(
        capsys,
        *asked,
        *("--max-bytes", "1B", "--max-drop", "100%", "--max-latency-ratio", "1000"),
        status=1,
    ).splitlines()
    assert [line.split(":")[0] for line in out] == [
        "failed  bytes",
        "passed  top-1 drop",
        "passed  latency ratio",
    ]
    assert "1 thread(s); 95 % interval" in out[2]


def measured(name: str, times: Sequence[float]) -> Measurement:
    """A round for each of `times`, of three equal calls."""
    return make_measurement(name, *((t, t, t) for t in times), threads=2)


def test_latency_ratio_is_that_of_the_medians() -> None:
    pair = measured("a", [1.0, 1.02, 1.01]), measured("b", [2.0, 2.0, 2.0])
    found = latency_criterion(pair, 0.5)
    assert found.found == pytest.approx(0.505)
    assert not found.passed
    assert not found.certain
    assert "within the uncertainty" in found.line()
    assert latency_criterion(pair, 0.6).passed
    assert latency_criterion(pair, 0.6).certain
    assert "2 thread(s)" in found.line()
    noisy = replace(pair[0], settled=False)
    assert "noisy: a" in latency_criterion((noisy, pair[1]), 1.0).line()


def test_the_benchmark_measures_file_and_reference_in_this_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def fake(files: Sequence[Path], targets: Sequence[object], **_: object) -> object:
        seen.extend(files)
        assert [target.threads for target in targets] == [2]
        assert all(path.is_file() for path in files)
        return measured("file", [3.0] * 3), measured("against", [2.0] * 3)

    monkeypatch.setattr(check, "benchmark", fake)
    asked = ("check", spoilt_container(), "--against", fp32_file(), "--threads", 2)
    out = told(capsys, *asked, "--max-latency-ratio", "1.1", status=1)
    assert out.startswith("failed  latency ratio: 1.50 (3.00 ms against 2.00 ms, 2 thread(s)")
    assert seen[0].suffix == ".onnx"
    assert seen[0] != spoilt_file()
    assert seen[1] == fp32_file()
    told(capsys, *asked, "--max-latency-ratio", "1.5")


def comparison(lost: int, won: int, samples: int) -> Comparison:
    def change(index: int, label: int) -> Change:
        return Change(index, str(index), label, 0, 0.9, 1, 0.8, 0.1)

    changes = [*(change(i, 0) for i in range(lost)), *(change(i, 1) for i in range(won))]
    return Comparison(samples, tuple(changes), 100, 100 - lost + won)


def test_a_drop_is_certain_only_beyond_its_interval() -> None:
    few = drop_criterion(comparison(3, 1, 500), 0.005)
    assert few.passed
    assert not few.certain
    assert "within the uncertainty: measure more to be sure" in few.line()
    many = drop_criterion(comparison(90, 0, 500), 0.01)
    assert not many.passed
    assert many.certain
    assert "uncertainty" not in many.line()
    gain = drop_criterion(comparison(0, 90, 500), 0.0)
    assert gain.passed
    assert gain.certain
    assert "top-1 drop: −18.00 points" in gain.line()
    assert drop_criterion(comparison(0, 0, 500), 0.0).passed


def test_the_limit_itself_is_allowed() -> None:
    assert bytes_criterion(1000, 1000).passed
    assert not bytes_criterion(1001, 1000).passed
    assert Criterion("latency ratio", 1.1, 1.1, (1.0, 1.2), "", "").passed
    assert drop_criterion(comparison(5, 0, 500), 0.01).passed  # 5 / 500 is 0.01 in floats, too


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to check"),
        (("--max-drop", "1%"), "--max-drop needs pictures and a file to compare with"),
        (("--max-drop", "1"), "'1' is not clear: write 1% for percent"),
        (("--max-bytes", "big"), "'big' is no size"),
        (("--max-latency-ratio", "1.1"), "needs a file to compare with: --against"),
        (("--max-latency-ratio", "0"), "is no ratio"),
        (("--max-bytes", "1MB", "--images", "."), "--images is for --max-drop"),
        (("--max-bytes", "1MB", "--against", "x.onnx"), "--against is for --max-drop"),
        (("--max-bytes", "1MB", "--threads", "0"), "whole number from 1"),
    ],
)
def test_what_cannot_be_judged(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, "check", int8_file(), *arguments)


def test_a_file_is_no_reference_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("check", fp32_file(), "--against", fp32_file(), "--max-latency-ratio", "1.1")
    assert "itself; give the uncompressed file" in refused(capsys, *asked)


@pytest.mark.parametrize(("name", "content", "words"), BAD_MODELS)
def test_what_is_no_model_passes_no_gate(
    name: str,
    content: bytes | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A cut-off file is small; it must not pass for that."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    said = refused(capsys, "check", path, "--max-bytes", "1GB")
    assert name in said
    if "onnx file" not in words:  # not parsed here: the runtime itself speaks
        assert words in said
