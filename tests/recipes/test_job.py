"""What a job refuses, compares with, and says; on nets that take seconds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from compress.candidate import Candidate
from compress.errors import CheckpointError, ExportError, RecipeError
from compress.stage import Stage
from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Batch, Task
from recipes.toolbox import job as module
from recipes.toolbox.job import Job
from recipes.toolbox.scanning import FEW_PICTURES
from targets.advice import reference_of
from targets.report import Report, read_report
from tests.candidates import fresh
from tests.digits import Trained, digits, digits_task
from tests.nets import digits_residual_spec


@pytest.fixture
def task() -> Task:
    """The digits, without test pictures: files are compared, not scored."""
    return replace(digits_task(), test=None)


def job_in(folder: Path) -> Job:
    return Job("r", folder, smoke=True)


def finished(job: Job) -> Report:
    job.finish(job.about("net", "digits", "svd", max_drop=1.0))
    assert job.finished
    return read_report(job.folder / "report.json")


def test_a_factorized_net_is_compared_with_the_untouched_one(
    trained_plain: Trained, tmp_path: Path
) -> None:
    job, task = job_in(tmp_path), trained_plain.task
    dense = trained_plain.candidate
    pictures, labels = digits()["test"]
    task = replace(task, test=lambda predict: predict(pictures).argmax(1) == labels)
    thin = job.compress(dense, [FactorizeSVD(rank=4)], task)
    assert thin.edits
    job.deliver("fp32", dense, ("onnx",), task)
    job.deliver("svd", thin, ("onnx",), task)
    report = finished(job)
    first, second = report.rows
    assert (first.precision, second.precision) == ("fp32", "fp32")
    assert (first.method, second.method) == ("none", "svd")
    assert reference_of(second, report.rows) is first
    assert report.smoke


def test_ratios_are_to_the_net_before_any_stage(tmp_path: Path, task: Task) -> None:
    job, raw = job_in(tmp_path), fresh(digits_residual_spec)
    folded = job.compress(raw, [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx",), task)
    (row,) = finished(job).rows
    before, after = (
        4 * sum(p.size for p in c.network.parameters().values()) for c in (raw, folded)
    )
    assert row.baseline_bytes == before != after
    assert row.ratio == pytest.approx(before / row.file_bytes, abs=1e-4)
    assert row.method == "none"


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (PruneMagnitude(0.5), r"has \S+\.weight encoded \(stages: PruneMagnitude\)"),
        (QuantizeInt8(), r"has quantized activations \(stages: QuantizeInt8\)"),
        (FactorizeSVD(rank=2), r"changed by Factorized \(stages: FactorizeSVD\)"),
    ],
)
def test_the_first_delivery_must_be_the_untouched_net(
    stage: Stage, words: str, tmp_path: Path, task: Task
) -> None:
    job = job_in(tmp_path)
    changed = job.compress(fresh(), [stage], task)
    with pytest.raises(RecipeError, match=words) as caught:
        job.deliver("small", changed, ("onnx",), task)
    assert "deliver the untouched fp32 net first" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("*.onnx")) == job.deliveries == []


def test_a_smaller_net_has_its_own_rows_and_is_not_what_the_report_explains(
    trained_plain: Trained, tmp_path: Path
) -> None:
    job, dense = job_in(tmp_path), trained_plain.candidate
    pictures, labels = digits()["test"]
    task = replace(trained_plain.task, test=lambda predict: predict(pictures).argmax(1) == labels)
    thin = job.compress(dense, [FactorizeSVD(rank=4)], task)
    job.deliver("fp32", dense, ("onnx",), task)
    job.deliver("svd", thin, ("onnx",), task)
    job.deliver("half", fresh(), ("onnx",), task, smaller="net x 0.5")
    report = finished(job)
    assert [r.method for r in report.rows] == ["none", "svd", "smaller net"]
    assert [r.model for r in report.rows] == ["net", "net", "net x 0.5"]
    assert [step.stage for step in report.steps] == ["FactorizeSVD"]
    first, _, last = report.rows
    assert last.top1_fp32 == first.top1
    assert last.params == sum(p.size for p in fresh().network.parameters().values())
    assert last.latency_ms is not None


def test_a_smaller_net_is_neither_first_nor_compressed(tmp_path: Path, task: Task) -> None:
    job, net = job_in(tmp_path), fresh()
    with pytest.raises(RecipeError, match=r"first delivery is net x 0\.5, a smaller net") as caught:
        job.deliver("half", net, ("onnx",), task, smaller="net x 0.5")
    assert "deliver the untouched fp32 net first" in str(caught.value)
    job.deliver("fp32", net, ("onnx",), task)
    pruned = job.compress(net, [PruneMagnitude(0.5)], task)
    with pytest.raises(RecipeError, match=r"the smaller net net x 0\.5 has \S+ encoded") as caught:
        job.deliver("half", pruned, ("onnx",), task, smaller="net x 0.5")
    assert "\n" not in str(caught.value)
    assert len(job.deliveries) == 1


@pytest.mark.parametrize(
    "label", ["", "a/b", "../up", "a\\b", ".hidden", "-x", "a b", "a\nb", "naïve", "a" * 65, "a\0"]
)
def test_labels_that_make_no_file_name(label: str, tmp_path: Path, task: Task) -> None:
    with pytest.raises(RecipeError, match="cannot stand in a file name") as caught:
        job_in(tmp_path).deliver(label, fresh(), ("onnx",), task)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_nothing_is_delivered_twice(tmp_path: Path, task: Task) -> None:
    job, net = job_in(tmp_path), fresh()
    job.deliver("fp32", net, ("onnx",), task)
    before = contents(tmp_path)
    for formats in (("onnx",), ("dc", "onnx"), ("dc", "dc")):
        with pytest.raises(RecipeError, match="is delivered already"):
            job.deliver("fp32", net, formats, task)
    with pytest.raises(ExportError, match="'gguf'"):
        job.deliver("other", net, ("onnx", "gguf"), task)
    assert contents(tmp_path) == before
    job.deliver("v1.0_b-2", net, ("onnx",), task)
    assert len(job.deliveries) == 2


def test_a_stage_that_touched_nothing_says_so(
    tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    job, net = job_in(tmp_path), fresh()
    same = job.compress(net, [FactorizeSVD(rank=10_000), FoldBatchNorm()], task)
    svd, fold = capsys.readouterr().out.splitlines()
    assert "nothing touched: " in svd
    assert svd.endswith(same.history[0].skipped[0].reason)
    assert fold.endswith("nothing touched")
    job.compress(net, [PruneMagnitude(0.5)], task)
    assert "nothing touched" not in capsys.readouterr().out


def test_the_stage_that_runs_is_told(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "busy", lambda *_: nullcontext(told.append))
    seen: list[tuple[str, ...]] = []

    def evaluate(_: object) -> dict[str, float]:
        seen.append(tuple(told))
        return {}

    stages = [PruneMagnitude(0.5), FoldBatchNorm()]
    job_in(tmp_path).compress(fresh(), stages, replace(task, evaluate=evaluate))
    names = ("running PruneMagnitude", "running FoldBatchNorm")
    assert seen == [names[:1], names]


def test_what_was_given_and_never_looked_at(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    assert job.unasked() == ()
    job.give(data=tmp_path, weights=tmp_path, net="lenet")
    assert job.unasked() == ("--data", "--weights", "--net")
    assert job.net == "lenet"
    assert job.unasked() == ("--data", "--weights")
    assert job.need_data("pictures") == tmp_path
    assert job.unasked() == ("--weights",)
    assert job.weights == tmp_path
    assert job.unasked() == ()


def test_the_untouched_net_is_the_first_that_comes_in(tmp_path: Path, task: Task) -> None:
    job, net = job_in(tmp_path), fresh()
    pruned: Candidate = job.compress(net, [PruneMagnitude(0.5)], task)
    job.compress(pruned, [PruneMagnitude(0.6)], task)
    assert job.untouched is net


def test_a_net_is_chosen_among_those_that_the_recipe_knows(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    with pytest.raises(RecipeError, match="needs a net; none was asked for; add --net NAME, one "):
        job.choose_net(("lenet", "resnet"))
    job.give(net="vgg")
    with pytest.raises(RecipeError, match=r"'vgg' was asked for; .* one of lenet, resnet"):
        job.choose_net(("lenet", "resnet"))
    job.give(net="resnet")
    assert job.choose_net(("lenet", "resnet")) == "resnet"


def test_an_int8_scan_stands_in_the_report_and_is_not_made_twice(
    trained_plain: Trained, tmp_path: Path
) -> None:
    dense, task = trained_plain.candidate, replace(trained_plain.task, test=None)
    job = job_in(tmp_path)
    found = job.scan_int8(dense, task, QuantizeInt8("mse"))
    assert found.pictures == FEW_PICTURES  # a smoke run
    job.deliver("fp32", dense, ("onnx",), task)
    shown = finished(job).int8_scan
    assert shown is not None
    assert [row.layer for row in shown.layers] == [row.layer for row in found.layers]
    assert shown.ways

    def never() -> list[Batch]:
        raise AssertionError("scanned again")

    resumed = Job("r", tmp_path, smoke=True, resume=True)
    blind = replace(task, calibration=never)
    assert resumed.scan_int8(dense, blind, QuantizeInt8("mse")) == found
    with pytest.raises(AssertionError, match="scanned again"):  # another stage, another scan
        resumed.scan_int8(dense, blind, QuantizeInt8())
    kept = next((tmp_path / "steps").glob("int8-scan-*.json"))
    kept.write_text('{"quantize": ""}')
    with pytest.raises(CheckpointError, match=r"scan .*'pictures' is missing.*delete it"):
        resumed.scan_int8(dense, task, QuantizeInt8("mse"))


def test_a_scan_stands_in_the_report_and_is_not_made_twice(
    trained_plain: Trained, tmp_path: Path
) -> None:
    dense, task = trained_plain.candidate, replace(trained_plain.task, test=None)
    job = job_in(tmp_path)
    found = job.scan(dense, task, (0.5, 0.9))
    job.deliver("fp32", dense, ("onnx",), task)
    shown = finished(job).sensitivity
    assert shown is not None
    assert [c.values for c in shown.curves] == [c.values for c in found.curves]
    assert found.whole == task.evaluate(dense.predict)["top1"]

    def never(_: object) -> dict[str, float]:
        raise AssertionError("scored again")

    resumed = Job("r", tmp_path, smoke=True, resume=True)
    assert resumed.scan(dense, replace(task, evaluate=never), (0.5, 0.9)) == found
    with pytest.raises(AssertionError, match="scored again"):  # other sparsities, another scan
        resumed.scan(dense, replace(task, evaluate=never), (0.5,))
    kept = next((tmp_path / "steps").glob("scan-*.json"))
    kept.write_text('{"metric": "top1"}')
    with pytest.raises(CheckpointError, match=r"scan .*'whole' is missing.*delete it") as caught:
        resumed.scan(dense, task, (0.5, 0.9))
    assert "\n" not in str(caught.value)
