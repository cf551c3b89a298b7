"""edgepress plan: nothing trained, nothing lost, and what it says comes true."""

from __future__ import annotations

import functools
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.errors import OutputError, RecipeError, ReportError, StageOrderError, TaskError
from compress.stage import StageResult
from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_gradually import PruneGradually
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.schedules import in_rounds
from compress.stages.share_by_rate import ShareByRate
from compress.stages.share_weights import ShareWeights
from compress.task import Predict, Task
from recipes import cli
from recipes.planning import dry
from recipes.planning.files import Files
from recipes.planning.job import PlanningJob
from recipes.planning.place import plan_of, plan_path
from recipes.planning.table import WIDTH, plan_lines
from recipes.toolbox.folder import MARK, Identity, open_folder
from recipes.toolbox.job import Job
from targets.measurement import Plan as Timing
from targets.planning.plan import Plan, read_plan, write_plan
from targets.report import read_report
from tests.candidates import fresh
from tests.digits import digits_task, trained
from tests.nets import digits_plain_spec, digits_residual_spec
from tests.recipes.commands import DIGITS

# One process a file: what is tested is not the machine.
BRIEF = Timing(runs=5, rounds=1, warmup_s=0.01, max_s=0.02)


def never(*given: object) -> None:
    raise AssertionError(f"trained with {given}")


@pytest.fixture
def task() -> Task:
    """The digits; whoever trains or scores fails."""
    return replace(digits_task(), finetune=never, evaluate=_unscored, test=_unscored)


def _unscored(predict: Predict) -> Any:
    raise AssertionError(f"scored {predict}")


def job_in(folder: Path) -> PlanningJob:
    job = PlanningJob("r", folder)
    job.files.timing = BRIEF
    return job


def unmeasured(folder: Path) -> PlanningJob:
    """A job whose files are not timed."""
    job = job_in(folder)
    job.files.measure = tuple  # type: ignore[method-assign]
    return job


def finished(job: PlanningJob) -> Plan:
    job.finish(job.about("net", "digits", "m", max_drop=1.0))
    assert job.finished
    assert job.plan is not None
    return job.plan


@functools.cache
def chain_plan() -> Plan:
    """A chain with training in it, to three formats."""
    task = replace(digits_task(), finetune=never, evaluate=_unscored, test=_unscored)
    with tempfile.TemporaryDirectory() as folder:
        job = job_in(Path(folder))
        dense = job.train(digits_residual_spec(), [FineTune(50, 0.1), FoldBatchNorm()], task)
        pruned = PruneGradually(PruneMagnitude(0.8), FineTune(9, 0.1), 3)
        shared = job.compress(dense, [pruned, ShareWeights(4), FineTune(5, 0.1)], task)
        int8 = job.compress(shared, [QuantizeInt8()], task)
        job.deliver("fp32", dense, ("onnx",), task)
        job.deliver("a-label-that-is-long", shared, ("dc", "onnx-packed"), task)
        job.deliver("int8", int8, ("onnx",), task)
        plan = finished(job)
        assert not (job.folder / "report.json").exists()
        return plan


def test_a_chain_is_planned_without_training() -> None:
    plan = chain_plan()
    assert plan.random
    assert [s.stage for s in plan.stages] == [
        *("random start", "FineTune", "FoldBatchNorm", "PruneGradually", "ShareWeights"),
        *("FineTune", "QuantizeInt8"),
    ]
    assert [s.same for s in plan.stages] == [False, True, False, False, False, True, False]
    pruned = plan.stages[3]
    assert pruned.planned_as[0].startswith("PruneMagnitude(sparsity=0.8")
    assert pruned.settings.startswith("PruneGradually(")
    # Folding makes no file of its own; the first file stands for both.
    assert plan.stages[2].files[0].figures == plan.stages[0].files[0].figures
    files = {file.path.removeprefix("digits_residual-"): file for file in plan.files}
    packed = files["a-label-that-is-long.packed.onnx"]
    assert list(files) == [
        *("fp32.onnx", "a-label-that-is-long.dc", "a-label-that-is-long.packed.onnx", "int8.onnx"),
    ]
    assert files["fp32.onnx"].verdicts == ()
    assert packed.against == "digits_residual-fp32.onnx"
    answers = {v.question: v for v in packed.verdicts}
    assert (answers["file"].answer, answers["file"].seen) == ("yes", "yes")
    assert (answers["latency"].answer, answers["memory"].answer) == ("no", "worse")
    assert answers["download"].agrees
    container = files["a-label-that-is-long.dc"]
    assert [v.answer for v in container.verdicts] == ["yes", "yes", "not run", "not run"]


def test_times_and_memory_are_measured() -> None:
    for file in chain_plan().files:
        assert file.figures is not None
        if file.format == "dc":
            assert (file.figures.latency_ms, file.runtime) == (None, "")
        else:
            assert file.figures.latency_ms is not None
            assert file.figures.latency_ms > 0
            assert file.runtime.startswith("onnxruntime ")


def test_the_table_fits_a_terminal() -> None:
    lines = list(plan_lines(chain_plan()))
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    assert "nothing was trained" in text
    assert "accuracy is unknown" in text
    assert "a plain .onnx stores every weight" in text
    assert "onnx-packed (onnxruntime" in text
    assert "PruneMagnitude, untrained" in text
    delivered = text[text.index("What the recipe will deliver") :]
    assert "\nint8.onnx " in delivered
    assert "digits_residual-" not in delivered.partition("file?, download?")[0]


def test_counts_are_exact(tmp_path: Path, task: Task) -> None:
    job, dense = unmeasured(tmp_path), fresh(digits_residual_spec)
    thin = job.compress(dense, [FactorizeSVD(rank=4), PruneMagnitude(0.5)], task)
    job.deliver("fp32", dense, ("onnx",), task)
    job.deliver("svd", job.compress(thin, [FoldBatchNorm()], task), ("onnx",), task)
    last = finished(job).files[-1]
    own = list(job.deliveries[-1].candidate.network.parameters().values())
    assert last.params == sum(p.size for p in own)
    assert last.nonzeros == sum(int(np.count_nonzero(p)) for p in own)
    assert 0 < last.macs < job.states.of(dense).form.macs
    assert last.figures is not None
    assert last.figures.file_bytes == job.deliveries[-1].artifact.path.stat().st_size


def test_rounds_before_the_last_make_no_files(tmp_path: Path, task: Task) -> None:
    job, dense = unmeasured(tmp_path), fresh(digits_plain_spec)
    rounds = in_rounds(PruneMagnitude(0.9), FineTune(3, 0.1), 3)
    last = job.compress(dense, rounds, task)
    job.deliver("fp32", dense, ("onnx",), task)
    job.deliver("pruned", last, ("onnx",), task)
    stages = finished(job).stages
    told = [[f.missing for f in s.files] for s in stages if s.stage == "PruneMagnitude"]
    assert told == [["another round of the stage follows"]] * 2 + [[""]]
    assert stages[5].files[0].against == "0 start"


def test_what_is_no_file_yet_says_why(tmp_path: Path, task: Task) -> None:
    job, dense = unmeasured(tmp_path), fresh(digits_residual_spec)
    chain = [PruneMagnitude(0.5), ShareWeights(3), FoldBatchNorm()]
    pruned = job.compress(dense, chain, task)
    job.deliver("fp32", job.compress(dense, [FoldBatchNorm()], task), ("onnx",), task)
    job.deliver("pruned", pruned, ("onnx",), task)
    plan = finished(job)
    stage = next(s for s in plan.stages if s.stage == "PruneMagnitude")
    assert stage.files[0].figures is None
    assert "put FoldBatchNorm first" in stage.files[0].missing


def test_what_the_run_would_refuse_after_hours_is_refused_now(tmp_path: Path, task: Task) -> None:
    job, dense = job_in(tmp_path), fresh(digits_residual_spec)
    encoded = job.compress(dense, [PruneMagnitude(0.5)], task)
    with pytest.raises(RecipeError, match="deliver the untouched fp32 net first"):
        job.deliver("pruned", encoded, ("onnx",), task)
    with pytest.raises(StageOrderError, match="put FactorizeSVD before"):
        job.compress(encoded, [FactorizeSVD(rank=2)], task)
    with pytest.raises(TaskError, match=r"FineTune needs task\.finetune"):
        job.compress(dense, [FineTune(3, 0.1)], replace(task, finetune=None))
    with pytest.raises(TaskError, match=r"needs task\.calibration"):
        job.deliver("fp32", dense, ("onnx",), replace(task, calibration=None))
    job.deliver("fp32", dense, ("onnx",), task)
    with pytest.raises(RecipeError, match="is delivered already"):
        job.deliver("fp32", dense, ("onnx",), task)


def test_a_plan_of_nothing_is_refused(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    with pytest.raises(RecipeError, match="delivered no file"):
        job.finish(job.about("net", "digits", "m", max_drop=1.0))


@dataclass(frozen=True)
class OwnStage:
    """A user's: it trains, and says nothing of doing without."""

    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        from compress.task import Tuning

        epochs: list[int] = []
        loop = task.need_finetune("OwnStage")
        loop(candidate.network.module(), Tuning(3, 0.1, 0, None, epochs.append))
        assert epochs == [0, 1, 2]
        return StageResult(candidate)


def test_a_stage_of_the_users_own_trains_nothing(tmp_path: Path, task: Task) -> None:
    job, dense = job_in(tmp_path), fresh(digits_plain_spec)
    assert job.compress(dense, [OwnStage()], task).digest() == dense.digest()


def test_metrics_are_there_for_a_recipe_that_looks_at_them(tmp_path: Path) -> None:
    calls: list[int] = []

    def evaluate(predict: Predict) -> Mapping[str, float]:
        calls.append(predict(np.zeros((1, 1, 8, 8), np.float32)).shape[1])
        return {"top1": 0.5, "samples": 2.0}

    task = replace(digits_task(), evaluate=evaluate, finetune=never)
    job = job_in(tmp_path)
    done = job.compress(fresh(digits_plain_spec), [PruneMagnitude(0.5)], task)
    assert calls == []
    metrics = done.history[-1].metrics
    assert (metrics["top1"], dict(metrics), len(metrics)) == (0.5, {"top1": 0.5, "samples": 2.0}, 2)
    assert calls == [10]


def test_few_pictures_are_read() -> None:
    shown: list[int] = []

    def calibration() -> Any:
        for _ in range(100):
            shown.append(1)
            yield np.zeros((20, 3, 128, 128), np.float32)

    few = dry.dry_task(replace(digits_task(), calibration=calibration))
    assert few.calibration is not None
    assert [len(batch) for batch in few.calibration()] == [20, dry.PICTURES - 20]
    assert len(shown) == 2
    assert [len(batch) for batch in few.calibration()] == [20, 12]  # anew at each call


def test_levels_by_rate_are_those_of_the_net_before_it_was_pruned(tmp_path: Path) -> None:
    """Pruned and not trained, a net answers at random: every level seems too dear."""
    known = trained(digits_residual_spec)
    task = replace(known.task, finetune=never)
    job, dense = job_in(tmp_path), known.candidate
    prune = PruneGradually(PruneMagnitude(0.6), FineTune(9, 0.1), 3)
    chain = [prune, FoldBatchNorm(), ShareByRate(1e-5)]
    done = job.compress(dense, chain, task)
    alone = job.compress(dense, [FoldBatchNorm(), ShareByRate(1e-5)], task)
    for name, encoding in done.encodings.items():
        zeros = np.count_nonzero(encoding.zeros())
        assert zeros >= 0.6 * encoding.zeros().size - 1
        whole = alone.network.parameters()[name]
        np.testing.assert_array_equal(
            done.network.parameters()[name], np.where(encoding.zeros(), 0, whole)
        )


def test_biases_do_not_stay_zeros(tmp_path: Path, task: Task) -> None:
    dense = job_in(tmp_path).train(digits_residual_spec(), [], task)
    values = dense.network.parameters().values()
    assert all(np.unique(value).size > 1 for value in values if value.size > 1)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a plan timed for an instant."""
    monkeypatch.setattr(Files, "timing", BRIEF)
    monkeypatch.setattr("recipes.toolbox.job.FULL", BRIEF)

    def make(self: PlanningJob) -> None:
        Job.__post_init__(self)
        self.files = Files(self.folder, BRIEF)

    monkeypatch.setattr(PlanningJob, "__post_init__", make)


@pytest.mark.usefixtures("brief")
def test_what_is_planned_comes_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, then really trained: bytes within 3 %, counts exactly; the report shows both."""
    out = tmp_path / "out"
    assert cli.main(["plan", str(DIGITS), "--out", str(out)]) == 0
    assert f"plan: {out / 'plan.json'}" in capsys.readouterr().out
    assert [entry.name for entry in out.iterdir()] == ["plan.json"]
    plan = read_plan(out / "plan.json")
    assert cli.main(["run", str(DIGITS), "--out", str(out)]) == 0
    report = read_report(out / "report.json")
    assert report.planned == plan
    rows = {row.path: row for row in report.rows}
    assert [file.path for file in plan.files] == list(rows)
    for file in plan.files:
        row = rows[file.path]
        assert file.figures is not None
        assert file.figures.file_bytes == pytest.approx(row.file_bytes, rel=0.03)
        assert file.figures.download_bytes == pytest.approx(row.download_bytes, rel=0.05)
        assert (file.params, file.nonzeros, file.macs) == (row.params, row.nonzeros, row.macs)
    written = (out / "report.md").read_text()
    assert "Predicted before training" in written
    assert "has changed since" not in written
    # The plan is no run's output: what replaces the run keeps it, and a plan leaves a run alone.
    opened = open_folder(out, Identity("digits_recipe", 0, False, 1), resume=None, overwrite=True)
    opened.lock.close()
    assert {entry.name for entry in out.iterdir()} >= {"plan.json", MARK}
    assert not (out / "report.json").exists()
    assert plan_path(out, overwrite=True) == out / "plan.json"


def test_a_plan_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("mine")
    with pytest.raises(OutputError, match="holds a plan; add --overwrite"):
        plan_path(tmp_path, overwrite=False)
    assert plan_path(tmp_path, overwrite=True) == path
    assert path.read_text() == "mine"


def test_a_strange_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and not of an edgepress run"):
        plan_path(tmp_path, overwrite=True)
    (tmp_path / MARK).write_text("{}")
    assert plan_path(tmp_path, overwrite=False) == tmp_path / "plan.json"
    with pytest.raises(OutputError, match="is not a folder"):
        plan_path(tmp_path / "thesis.txt", overwrite=False)
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(OutputError, match="is no plain file"):
        plan_path(tmp_path, overwrite=True)


def test_a_run_takes_the_plan_that_is_its_own(tmp_path: Path) -> None:
    from tests.targets.planning.test_plan_file import a_plan

    path = tmp_path / "plan.json"
    assert plan_of("r", None, tmp_path, None) is None
    write_plan(a_plan(), path)
    assert plan_of("r", None, tmp_path, None) == a_plan()
    assert plan_of("r", None, tmp_path / "out", path) == a_plan()
    with pytest.raises(RecipeError, match="is a plan of 'r', not of 'other'"):
        plan_of("other", None, tmp_path, None)
    write_plan(replace(a_plan(), net="a"), path)
    assert plan_of("r", "a", tmp_path, None) == replace(a_plan(), net="a")
    with pytest.raises(RecipeError, match="of 'r' with --net a, not of 'r' with --net b; give its"):
        plan_of("r", "b", tmp_path, path)
    path.write_text("{")
    with pytest.raises(ReportError, match="is not JSON"):
        plan_of("r", None, tmp_path, None)
    with pytest.raises(ReportError, match="cannot read"):
        plan_of("r", None, tmp_path, tmp_path / "none.json")


RECIPES = {
    "unfinished": ("def main(job):\n    pass\n", "ended without a report"),
    "dataless": ("def main(job):\n    job.need_data('pictures')\n", "needs data: add --data DIR"),
    "netless": ("def main(job):\n    job.choose_net(['a'])\n", "needs a net"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_errors_are_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, said = RECIPES[name]
    script = tmp_path / f"plans_{name}.py"
    script.write_text(source)
    out = tmp_path / "out"
    assert cli.main(["plan", str(script), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(out.iterdir())


def test_a_launched_plan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recipes.toolbox.distributed.processes", lambda: 2)
    assert cli.main(["plan", str(DIGITS), "--out", str(tmp_path / "out")]) == 2
    assert "made by one process" in capsys.readouterr().err


TERMINATED = """
import os, signal
def main(job):
    job.net
    (job.folder / "file").write_text("large")
    print(job.folder)
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_terminated_plan_leaves_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    script = tmp_path / "plan_terminated.py"
    script.write_text(TERMINATED)
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", str(script), "--out", str(tmp_path / "out")])
    assert ended.value.code == 143
    assert not Path(capsys.readouterr().out.strip()).exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_net_that_the_recipe_never_looks_at_is_named(tmp_path: Path, task: Task) -> None:
    job, dense = unmeasured(tmp_path), fresh(digits_plain_spec)
    job.give(net="a")
    job.deliver("fp32", dense, ("dc",), task)
    assert finished(job).net == "a"
    assert job.unasked() == ("--net",)
