"""Files delivered: compared with the candidate, scored once, and put into a report."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import EquivalenceError, ExportError, TaskError
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Predict, Task
from recipes.commands.run import recipe_names
from recipes.toolbox import delivery, smallest
from recipes.toolbox.delivery import COMPARED_PICTURES, deliver, pictures
from recipes.toolbox.summary import SMOKE, Sizes, summarize
from targets.artifact import file_sha256
from targets.rows import About
from tests.digits import Trained, calibration, digits
from tests.nets import digits_plain_spec
from tests.recipes.commands import ROOT


class Judge:
    """Judges as the task's own, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, predict: Predict) -> NDArray[np.bool_]:
        self.asked += 1
        test = digits()["test"]
        return predict(test.images).argmax(1) == test.labels


@pytest.fixture
def judged(trained_plain: Trained) -> tuple[Candidate, Task, Judge]:
    """A trained net with half of its weights pruned, its task, and who counts the scorings."""
    judge = Judge()
    task = replace(trained_plain.task, test=judge)
    return PruneMagnitude(0.5)(trained_plain.candidate, task).candidate, task, judge


def test_equal_bytes_are_scored_once(judged: tuple[Candidate, Task, Judge], tmp_path: Path) -> None:
    candidate, task, judge = judged
    coded = deliver(candidate, "dc", tmp_path / "net", task)
    assert coded.artifact.path == tmp_path / "net.dc"
    assert coded.evaluated_sha256 == file_sha256(tmp_path / "decoded" / "net.dc.onnx")
    assert coded.evaluated_sha256 != coded.artifact.sha256
    quick = deliver(candidate, "dc-quick", tmp_path / "net", task, [coded])
    assert quick.artifact.path == tmp_path / "net.quick.dc"
    assert quick.evaluated_sha256 == coded.evaluated_sha256
    assert quick.artifact.sha256 != coded.artifact.sha256
    assert judge.asked == 1
    plain = deliver(candidate, "onnx", tmp_path / "net", task, [coded])
    assert judge.asked == 1
    assert plain.right is coded.right
    assert plain.evaluated_sha256 == plain.artifact.sha256 == coded.evaluated_sha256
    assert plain.top1 is not None
    assert plain.top1 > 0.8
    assert plain.right is not None
    outputs = candidate.predict(digits()["test"].images)
    np.testing.assert_array_equal(plain.right, outputs.argmax(1) == digits()["test"].labels)
    assert plain.answers is coded.answers
    assert plain.answers is not None
    np.testing.assert_allclose(plain.answers, outputs, atol=1e-4)


def test_a_tflite_file_gets_the_same_pictures_right(
    judged: tuple[Candidate, Task, Judge], tmp_path: Path
) -> None:
    candidate, task, judge = judged
    done = deliver(candidate, "tflite", tmp_path / "net", task)
    assert judge.asked == 1
    assert done.evaluated_sha256 == done.artifact.sha256 == file_sha256(tmp_path / "net.tflite")
    expected = candidate.predict(digits()["test"].images).argmax(1) == digits()["test"].labels
    assert done.right is not None
    np.testing.assert_array_equal(done.right, expected)


def test_an_unknown_format_writes_nothing(
    judged: tuple[Candidate, Task, Judge], tmp_path: Path
) -> None:
    candidate, task, _ = judged
    with pytest.raises(ExportError, match="'gguf' was asked for; there are onnx, tflite, dc"):
        deliver(candidate, "gguf", tmp_path / "net", task)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_may_ask_for_the_form_of_another_processor_and_for_floats_at_the_ends(
    trained_plain: Trained, tmp_path: Path
) -> None:
    task = trained_plain.task
    folded = FoldBatchNorm()(trained_plain.candidate, task).candidate
    int8 = QuantizeInt8()(folded, task).candidate
    delivery.need_formats(("onnx-arm", "tflite-float-io"), "a recipe")
    arm = deliver(int8, "onnx-arm", tmp_path / "arm", task).artifact
    kinds = {t.data_type for t in onnx.load(arm.path).graph.initializer}
    assert (arm.format, onnx.TensorProto.UINT8 in kinds) == ("onnx", False)
    floats = deliver(int8, "tflite-float-io", tmp_path / "floats", task).artifact
    assert (floats.format, floats.precision) == ("tflite", "int8")
    assert {end.dtype for end in (*floats.inputs, *floats.outputs)} == {"float32"}


def test_no_test_data_no_score(judged: tuple[Candidate, Task, Judge], tmp_path: Path) -> None:
    candidate, task, _ = judged
    done = deliver(candidate, "onnx", tmp_path / "net", replace(task, test=None))
    assert done.right is None
    assert done.top1 is None
    with pytest.raises(TaskError, match="comparing a file with its candidate needs"):
        deliver(candidate, "onnx", tmp_path / "net", replace(task, calibration=None))


def test_a_file_that_computes_something_else_is_refused(
    judged: tuple[Candidate, Task, Judge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, task, judge = judged
    exporter = delivery.EXPORTERS["onnx"]

    class Wrong:
        format, suffix = "onnx", ".onnx"

        def __call__(self, given: Candidate, path: Path) -> object:
            values = given.network.parameters()["fc2.bias"] + np.float32(1)
            return exporter(given.with_values({"fc2.bias": values}, {}), path)

    monkeypatch.setitem(delivery.EXPORTERS, "onnx", Wrong())
    with pytest.raises(EquivalenceError, match="parts from its candidate"):
        deliver(candidate, "onnx", tmp_path / "net", task)
    assert judge.asked == 0


def test_a_container_that_decodes_to_another_net_is_refused(
    judged: tuple[Candidate, Task, Judge],
    trained_plain: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidate, task, judge = judged
    monkeypatch.setattr(delivery.deep_compression, "load", lambda *_: trained_plain.candidate)
    with pytest.raises(EquivalenceError, match="not to the candidate"):
        deliver(candidate, "dc", tmp_path / "net", task)
    assert judge.asked == 0


def test_the_first_calibration_pictures_are_compared(trained_plain: Trained) -> None:
    found = pictures(trained_plain.task)
    assert found.shape == (COMPARED_PICTURES, 1, 8, 8)
    np.testing.assert_array_equal(found, next(iter(calibration()))[:COMPARED_PICTURES])
    ones = replace(trained_plain.task, calibration=lambda: iter(np.split(found[:3], 3)))
    np.testing.assert_array_equal(pictures(ones), found[:3])


def test_a_report_of_deliveries(
    judged: tuple[Candidate, Task, Judge], trained_plain: Trained, tmp_path: Path
) -> None:
    pruned, task, _ = judged
    dense = deliver(trained_plain.candidate, "onnx", tmp_path / "dense", task)
    coded = deliver(pruned, "dc", tmp_path / "pruned", task)
    small = deliver(pruned, "onnx", tmp_path / "pruned", task, [coded])
    about = About("r", "plain", "digits", "pruning", 0, 0.05)
    report = summarize(about, [dense, coded, small], Sizes(tmp_path / "steps"), SMOKE)
    first, container, file = report.rows
    assert (first.method, container.method, file.method) == ("none", "pruning", "pruning")
    assert (first.won, first.lost) == (0, 0)
    assert container.latency_ms is None
    assert container.evaluated_sha256 == file.sha256
    assert file.latency_ms is not None
    assert file.latency_ms.runs == SMOKE.runs * SMOKE.rounds
    assert dense.right is not None
    assert small.right is not None
    assert file.won == int((small.right & ~dense.right).sum())
    assert file.lost == int((dense.right & ~small.right).sum())
    assert file.won - file.lost == round((small.right.mean() - dense.right.mean()) * 400)
    assert {row.top1_fp32 for row in report.rows} == {dense.top1}
    assert onnx.load(tmp_path / "pruned.onnx").graph.node
    assert file.baseline_bytes == 4 * sum(
        p.size for p in trained_plain.candidate.network.parameters().values()
    )


def test_shipped_recipes_ask_for_their_formats_first() -> None:
    """Before training, not after: the first line of main, and every format that is delivered."""
    for name in recipe_names():
        tree = ast.parse((ROOT / "recipes" / f"{name}.py").read_text())
        main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
        first = ast.unparse(main.body[0])
        assert first.startswith("job.need_formats("), name
        if first == "job.need_formats(*FORMATS)":
            assert "deliver_smallest(job, " in ast.unparse(main), name
            continue
        asked = {n.value for n in ast.walk(main.body[0]) if isinstance(n, ast.Constant)}
        assert _formats_in(main) == asked, name
        assert asked, name
    shared = ast.parse((ROOT / "recipes" / "toolbox" / "smallest.py").read_text())
    chains = {n.name: n for n in shared.body if isinstance(n, ast.FunctionDef)}
    assert _formats_in(chains["deliver_smallest"]) == set(smallest.FORMATS)


def _formats_in(function: ast.FunctionDef) -> set[str]:
    found = {n.value for n in ast.walk(function) if isinstance(n, ast.Constant)}
    return {value for value in found if isinstance(value, str)} & set(delivery.EXPORTERS)


def test_the_net_of_these_tests_is_not_one_a_file_may_name() -> None:
    """So that delivering had to hand its specification in."""
    assert not digits_plain_spec().builder.startswith("compress.models.")
