"""The run: what is recorded, what is resumed, what is run again, and what a kill leaves."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from torch import nn
from torch.nn.utils import parametrize

from compress import stage
from compress.candidate import Candidate, Skipped, Step
from compress.checkpoint import load_candidate, save_candidate
from compress.errors import (
    CheckpointError,
    EncodingError,
    OutputError,
    StageOrderError,
    TaskError,
)
from compress.network import TorchNetwork
from compress.stage import Stage, StageResult, refuse_encoded, run
from compress.stages.fine_tune import FineTune
from compress.task import Predict, Task
from tests.candidates import fresh, half_mask, mixed

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


@dataclass(frozen=True)
class Shift:
    """Adds `by` and a number drawn from the task's seed to a bias."""

    by: float
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        CALLS.append(repr(self))
        bias = candidate.network.parameters()["fc1.bias"]
        moved = (bias + self.by + np.random.default_rng(task.seed).random()).astype(np.float32)
        changed = candidate.with_values({"fc1.bias": moved}, {})
        return StageResult(changed, ("fc1",), (Skipped("fc2", "not asked"),))


@dataclass(frozen=True)
class Mask:
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        CALLS.append(repr(self))
        return StageResult(candidate.with_values({}, {"fc1.weight": half_mask((40, 64))}), ("fc1",))


@dataclass(frozen=True)
class Lawless:
    """Sets an encoding without its values."""

    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        return StageResult(replace(candidate, encodings={"fc1.weight": half_mask((40, 64))}))


def evaluate(predict: Predict) -> dict[str, Any]:
    """numpy numbers, as users' functions give."""
    return {"mean": np.float32(predict(np.zeros((2, 1, 8, 8), np.float32)).mean()), "n": 2}


TASK = Task(evaluate, "data v1")
STAGES: list[Stage] = [Shift(0.5), Mask(), Shift(0.25)]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_every_stage_is_recorded() -> None:
    reported: list[Candidate] = []
    done = run(fresh(), STAGES, TASK, report=reported.append)
    assert reported[-1] is done
    seen = [candidate.history[-1] for candidate in reported]
    assert done.history == tuple(seen)
    assert [s.stage for s in seen] == ["Shift", "Mask", "Shift"]
    assert [s.settings for s in seen] == ["Shift(by=0.5)", "Mask()", "Shift(by=0.25)"]
    assert seen[0].touched == ("fc1",)
    assert seen[0].skipped == (Skipped("fc2", "not asked"),)
    weights = fresh().network.parameters().values()
    assert seen[0].parameters == sum(p.size for p in weights)
    zeros = int(half_mask((40, 64)).zeros().sum())
    assert seen[0].nonzeros - seen[1].nonzeros == zeros
    assert seen[-1].digest == done.digest()
    assert all(s.checkpoint == "" and s.seconds >= 0 for s in seen)
    assert {type(v) for s in seen for v in s.metrics.values()} == {float}
    expected = evaluate(done.predict)
    assert seen[-1].metrics == {k: float(v) for k, v in expected.items()}


def test_no_stages_give_the_candidate_itself() -> None:
    candidate = fresh()
    assert run(candidate, [], TASK) is candidate


def test_the_candidate_handed_in_stays(tmp_path: Path) -> None:
    candidate = mixed(fresh())
    before = candidate.digest()
    run(candidate, STAGES, TASK, folder=tmp_path)
    assert candidate.digest() == before
    assert candidate.history == ()


def test_each_result_is_kept_and_readable(tmp_path: Path) -> None:
    done = run(fresh(), STAGES, TASK, folder=tmp_path / "new" / "folder")
    kept = sorted((tmp_path / "new" / "folder").iterdir())
    assert [re.sub("-[0-9a-f]{16}", "", p.name) for p in kept] == [
        "00-Shift.safetensors",
        "01-Mask.safetensors",
        "02-Shift.safetensors",
    ]
    assert [p.name for p in kept] == [s.checkpoint for s in done.history]
    for number, path in enumerate(kept):
        back = load_candidate(path, done.spec)
        assert back.history == done.history[: number + 1]
        assert back.digest() == done.history[number].digest


def test_resuming_reads_back_what_is_unchanged(tmp_path: Path) -> None:
    done = run(fresh(), STAGES, TASK, folder=tmp_path)
    before = files(tmp_path)
    CALLS.clear()
    seen: list[Candidate] = []
    again = run(fresh(), STAGES, TASK, folder=tmp_path, resume=True, report=seen.append)
    assert CALLS == []
    assert [c.digest() for c in seen] == [s.digest for s in done.history]
    assert again.digest() == done.digest()
    assert again.history == done.history
    assert files(tmp_path) == before
    save_candidate(again, tmp_path / "again.safetensors")
    save_candidate(done, tmp_path / "done.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "done.safetensors"
    ).read_bytes()


def test_without_resume_everything_runs_again(tmp_path: Path) -> None:
    run(fresh(), STAGES, TASK, folder=tmp_path)
    CALLS.clear()
    run(fresh(), STAGES, TASK, folder=tmp_path)
    assert len(CALLS) == 3


CHANGED: dict[str, tuple[Candidate, list[Stage], Task, list[str]]] = {
    "the seed": (fresh(), STAGES, replace(TASK, seed=1), ["Shift(by=0.5)", "Mask()"]),
    "the task's fingerprint": (
        fresh(),
        STAGES,
        replace(TASK, fingerprint="data v2"),
        ["Shift(by=0.5)", "Mask()"],
    ),
    "the first stage's settings": (
        fresh(),
        [Shift(0.75), *STAGES[1:]],
        TASK,
        ["Shift(by=0.75)", "Mask()"],
    ),
    "the starting weights": (fresh(seed=1), STAGES, TASK, ["Shift(by=0.5)", "Mask()"]),
    "the last stage's settings": (fresh(), [*STAGES[:2], Shift(0.3)], TASK, ["Shift(by=0.3)"]),
    "the order": (fresh(), [STAGES[1], STAGES[0]], TASK, ["Mask()", "Shift(by=0.5)"]),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_changed_runs_again_and_all_after_it(tmp_path: Path, what: str) -> None:
    run(fresh(), STAGES, TASK, folder=tmp_path)
    CALLS.clear()
    candidate, stages, task, expected = CHANGED[what]
    done = run(candidate, stages, task, folder=tmp_path, resume=True)
    assert CALLS[: len(expected)] == expected
    assert len(CALLS) == len(stages) - stages.index(next(s for s in stages if repr(s) in CALLS))
    assert run(candidate, stages, task).digest() == done.digest()


def test_a_lost_checkpoint_is_made_again_and_no_other(tmp_path: Path) -> None:
    done = run(fresh(), STAGES, TASK, folder=tmp_path)
    (tmp_path / done.history[1].checkpoint).unlink()
    CALLS.clear()
    again = run(fresh(), STAGES, TASK, folder=tmp_path, resume=True)
    assert CALLS == ["Mask()"]
    assert again.digest() == done.digest()


def test_history_is_this_runs_where_another_run_left_the_same_net(tmp_path: Path) -> None:
    """Two first stages with one result share the checkpoint of the second."""

    @dataclass(frozen=True)
    class Same:
        name: str
        changes: ClassVar[Literal["structure", "values"]] = "values"

        def __call__(self, candidate: Candidate, task: Task) -> StageResult:
            del task
            return StageResult(candidate)

    run(fresh(), [Same("a"), Mask()], TASK, folder=tmp_path)
    done = run(fresh(), [Same("b"), Mask()], TASK, folder=tmp_path, resume=True)
    assert [s.settings.replace("'", "") for s in done.history] == [
        f"{Same.__qualname__}(name=b)",
        "Mask()",
    ]


def test_a_checkpoint_of_another_net_under_the_right_name_is_refused(tmp_path: Path) -> None:
    done = run(fresh(), STAGES[:2], TASK, folder=tmp_path)
    first, second = (tmp_path / s.checkpoint for s in done.history)
    changed = load_candidate(first, done.spec).with_values(
        {"fc2.bias": np.zeros(10, np.float32)}, {}
    )
    save_candidate(changed, first)
    with pytest.raises(CheckpointError, match="not what its step recorded") as error:
        run(fresh(), STAGES[:2], TASK, folder=tmp_path, resume=True)
    assert "\n" not in str(error.value)
    save_candidate(fresh(), first)
    with pytest.raises(CheckpointError, match=re.escape(str(first))):
        run(fresh(), STAGES[:2], TASK, folder=tmp_path, resume=True)
    shutil.copy(second, first)
    assert second.is_file()


def test_a_damaged_checkpoint_stops_the_resume_in_one_line(tmp_path: Path) -> None:
    done = run(fresh(), STAGES[:1], TASK, folder=tmp_path)
    path = tmp_path / done.history[0].checkpoint
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable safetensors file") as error:
        run(fresh(), STAGES[:1], TASK, folder=tmp_path, resume=True)
    assert "\n" not in str(error.value)


def test_a_result_against_the_laws_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"fc1\.weight"):
        run(fresh(), [Shift(0.5), Lawless()], TASK, folder=tmp_path)
    assert [p.name[:8] for p in tmp_path.iterdir()] == ["00-Shift"]


class Twice(nn.Module):
    def forward(self, weight: Any) -> Any:
        return weight * 2


@dataclass(frozen=True)
class Untidy:
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        module = candidate.network.module()
        parametrize.register_parametrization(module.get_submodule("fc1"), "weight", Twice())
        return StageResult(replace(candidate, network=TorchNetwork(module, (1, 1, 8, 8))))


def test_a_stage_that_leaves_parametrizations_is_stopped() -> None:
    with pytest.raises(CheckpointError, match="fc1"):
        run(fresh(), [Untidy()], TASK)


def test_a_structure_stage_is_refused_after_encoding_and_told_where_it_belongs() -> None:
    refuse_encoded(Shift(1), fresh())
    done = run(fresh(), [Mask(), Shift(1)], TASK)
    with pytest.raises(StageOrderError, match=r"Shift .* fc1\.weight .*Mask.*put Shift") as error:
        refuse_encoded(Shift(1), done)
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Scratch:
    """Writes its progress and fails before the end where `fail`."""

    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        assert task.scratch is not None
        CALLS.append("found" if task.scratch.exists() else "new")
        if CALLS == ["new"]:
            task.scratch.write_text("epoch 1")
            raise KeyboardInterrupt
        return StageResult(candidate)


def test_a_stage_finds_its_own_progress_after_an_interrupt_and_it_goes_in_the_end(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(fresh(), [Scratch()], TASK, folder=tmp_path)
    assert [p.suffix for p in tmp_path.iterdir()] == [".progress"]
    run(fresh(), [Scratch()], TASK, folder=tmp_path, resume=True)
    assert CALLS == ["new", "found"]
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


@dataclass(frozen=True)
class Restructure:
    changes: ClassVar[Literal["structure", "values"]] = "structure"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        CALLS.append(repr(self))
        refuse_encoded(self, candidate)
        return StageResult(candidate)


def test_an_impossible_order_is_refused_before_anything_runs(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(StageOrderError, match=r"Restructure .* after Mask.*put Restructure be"):
        run(fresh(), [Shift(1), Mask(), Shift(1), Restructure()], TASK, folder=folder)
    assert CALLS == []
    assert not folder.exists()
    run(fresh(), [Shift(1), Restructure(), Mask()], TASK)
    assert len(CALLS) == 3


def test_a_structure_stage_on_an_encoded_candidate_is_refused_before_anything_runs() -> None:
    with pytest.raises(StageOrderError, match=r"after an earlier run, which encodes"):
        run(mixed(fresh()), [Shift(1), Restructure()], TASK)
    assert CALLS == []


def test_a_folder_that_cannot_be_one_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file cannot be written") as error:
        run(fresh(), STAGES, TASK, folder=tmp_path / "file")
    assert "\n" not in str(error.value)
    assert CALLS == []


NO_METRICS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "gave None; give a mapping"),
    "a number": (0.9, "gave 0.9; give a mapping"),
    "text": ({"top1": "0.9"}, "gave 'top1': '0.9'; give a finite number"),
    "a list": ({"top1": [0.9, 0.8]}, "give a finite number"),
    "an array": ({"top1": np.zeros((3, 3))}, "give a finite number"),
    "NaN": ({"top1": float("nan")}, "give a finite number"),
    "a name that is none": ({1: 0.9}, "by a name"),
    "a percentage": ({"top1": 97.5}, "'top1': 97.5; top1 is a fraction in .0, 1., not a percent"),
    "below zero": ({"top1": -0.1}, "fraction"),
}


@pytest.mark.parametrize("case", NO_METRICS)
def test_wrong_metrics_are_one_line_and_the_training_is_not_lost(tmp_path: Path, case: str) -> None:
    given, message = NO_METRICS[case]
    with pytest.raises(TaskError, match=message) as error:
        run(fresh(), [Shift(0.5)], replace(TASK, evaluate=lambda _: given), folder=tmp_path)
    assert str(error.value).startswith("after Shift task.evaluate gave ")
    assert "\n" not in str(error.value)
    assert CALLS == ["Shift(by=0.5)"]
    done = run(fresh(), [Shift(0.5)], TASK, folder=tmp_path, resume=True)
    assert CALLS == ["Shift(by=0.5)"]
    straight = run(fresh(), [Shift(0.5)], TASK, folder=tmp_path / "straight")
    assert done.digest() == straight.digest()
    assert done.history[0].metrics == straight.history[0].metrics != {}
    (kept,) = tmp_path.glob("*.safetensors")
    assert load_candidate(kept, done.spec).history == done.history


def test_an_evaluation_that_fails_does_not_lose_the_training(tmp_path: Path) -> None:
    def broken(_: Predict) -> dict[str, float]:
        raise ZeroDivisionError("the user's own")

    with pytest.raises(ZeroDivisionError, match="the user's own"):
        run(fresh(), STAGES, replace(TASK, evaluate=broken), folder=tmp_path)
    done = run(fresh(), STAGES, TASK, folder=tmp_path, resume=True)
    assert [repr(stage) for stage in STAGES] == CALLS
    assert all(step.metrics for step in done.history)


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import compress.checkpoint
from tests.compress import test_stage as here

where, folder = sys.argv[1], Path(sys.argv[2])
if where == "in the stage":
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    stages = [here.Shift(0.5), die]
else:
    stages = here.STAGES[:2]
    write = Path.write_bytes
    def half(path, data):
        if path.name.startswith(".01-"):
            write(path, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, data)
    Path.write_bytes = half
here.run(here.fresh(), stages, here.TASK, folder=folder)
"""


@pytest.mark.parametrize("where", ["in the stage", "in the writing"])
def test_a_kill_leaves_no_half_checkpoint_and_the_resumed_run_is_the_same(
    tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, str(folder)],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = [p for p in folder.iterdir() if p.suffix == ".safetensors"]
    assert [p.name[:8] for p in whole] == ["00-Shift"]
    load_candidate(whole[0], fresh().spec)
    resumed = run(fresh(), STAGES[:2], TASK, folder=folder, resume=True)
    assert CALLS == ["Mask()"]
    assert all(p.suffix == ".safetensors" for p in folder.iterdir())
    straight = run(fresh(), STAGES[:2], TASK, folder=tmp_path / "straight")
    assert resumed.digest() == straight.digest()

    def timeless(candidate: Candidate) -> list[Step]:
        return [dataclasses.replace(step, seconds=0) for step in candidate.history]

    assert timeless(resumed) == timeless(straight)


def test_a_checkout_that_is_not_installed_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.stage._VERSIONED", ("no-such-package-is-installed",))
    run(fresh(), [Mask()], TASK, folder=tmp_path)
    CALLS.clear()
    run(fresh(), [Mask()], TASK, folder=tmp_path, resume=True)
    assert CALLS == []


@dataclass(frozen=True)
class Train:
    """Trains an epoch, if `really`."""

    really: bool
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        if self.really:
            tuned = FineTune(1, 0.1).tuned(candidate, task)
            return StageResult(tuned, ("fc1",))
        return StageResult(candidate)


def test_a_step_names_the_accelerator_that_it_trained_on(tmp_path: Path) -> None:
    task = replace(TASK, finetune=lambda *_: None, trains_on="Accelerator 9")
    found = run(fresh(), [Train(False), Train(True)], task, folder=tmp_path)
    assert [step.trained_on for step in found.history] == ["", "Accelerator 9"]
    elsewhere = replace(task, trains_on="")
    again = run(fresh(), [Train(False), Train(True)], elsewhere, folder=tmp_path, resume=True)
    assert again.history == found.history


def test_what_another_build_of_the_same_torch_made_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(label: str) -> None:
        found = {"torch": f"2.13.0{label}"}
        monkeypatch.setattr(stage, "version", lambda name: found.get(name, "1.0"))

    built("+cu130")
    run(fresh(), [Shift(1.0)], TASK, folder=tmp_path)
    built("+cpu")
    run(fresh(), [Shift(1.0)], TASK, folder=tmp_path, resume=True)
    assert len(CALLS) == 1
    monkeypatch.setattr(stage, "version", lambda _: "2.14.0+cpu")
    run(fresh(), [Shift(1.0)], TASK, folder=tmp_path, resume=True)
    assert len(CALLS) == 2
