"""Budgets, repair and rounds of PruneChannels on nets that have learnt the digits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from compress.candidate import Candidate
from compress.divergence import Divergence
from compress.errors import CheckpointError, RangeError, TaskError
from compress.measure import Counted, count
from compress.pruning.budgets import LatencyBudget
from compress.pruning.choosing import Scope
from compress.pruning.criteria import CRITERIA, Criterion
from compress.spec import ModelSpec
from compress.stage import StageResult
from compress.stages.fine_tune import FineTune
from compress.stages.prune_channels import PruneChannels
from compress.stages.prune_channels_gradually import PruneChannelsGradually
from compress.task import Task, Tuning
from tests.digits import digits, train, trained
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec


def counted(candidate: Candidate) -> Counted:
    return count(candidate.spec, candidate.network.module())


def moved(before: Candidate, after: Candidate) -> float:
    """Divergence on pictures that nothing was chosen on."""
    pictures = digits()["validation"].images
    return Divergence.of(before.predict, lambda: [pictures])(after.predict)


@functools.cache
def pruned(stage: PruneChannels) -> Candidate:
    """The residual net after it, once: stages are values."""
    return stage(*trained(digits_residual_spec)).candidate


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_a_budget_is_met_exactly_as_measured(kind: str, scope: Scope) -> None:
    candidate, _ = trained(digits_residual_spec)
    done = pruned(PruneChannels(**{kind: 0.6}, scope=scope))  # type: ignore[arg-type]
    share = getattr(counted(done), kind) / getattr(counted(candidate), kind)
    assert share <= 0.6
    assert share > (0.52 if scope == "global" else 0.45)
    done.check()


BARE = {c: PruneChannels(macs=0.7, criterion=c, repair=False) for c in CRITERIA}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_meets_it(criterion: Criterion) -> None:
    candidate, _ = trained(digits_residual_spec)
    done = pruned(BARE[criterion])
    assert counted(done).macs <= 0.7 * counted(candidate).macs
    assert np.isfinite(done.predict(digits()["validation"].images)).all()


def test_ours_moves_the_answers_less_than_the_criteria_alone() -> None:
    candidate, _ = trained(digits_residual_spec)
    found = [moved(candidate, pruned(stage)) for c, stage in BARE.items() if c != "divergence"]
    ours = moved(candidate, pruned(PruneChannels(macs=0.7)))
    assert ours < 0.1 * min(found)


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec])
def test_repair_brings_the_answers_nearer(spec: Callable[[], ModelSpec]) -> None:
    candidate, task = trained(spec)
    stage = PruneChannels(keep=0.8)
    repaired = stage(candidate, task).candidate
    bare = dataclasses.replace(stage, repair=False)(candidate, task).candidate
    assert repaired.edits == bare.edits
    assert moved(candidate, repaired) < 0.7 * moved(candidate, bare)


def test_a_net_with_shuffles_meets_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its widths are those that narrower nets of it take; three are tried here."""
    monkeypatch.setattr("compress.pruning.ladders.PLANNED_STEPS", 3)
    candidate, task = trained(digits_branch_spec)
    done = PruneChannels(macs=0.5, criterion="l1", repair=False)(candidate, task).candidate
    assert 0.3 < counted(done).macs / counted(candidate).macs <= 0.5
    done.check()


def test_nothing_removed_is_the_same_net() -> None:
    candidate, task = trained(digits_residual_spec)
    done = PruneChannels(keep=1.0)(candidate, task).candidate
    assert done.digest() == candidate.digest()


def test_a_budget_that_cannot_be_met_names_the_nearest_that_can() -> None:
    candidate, task = trained(digits_residual_spec)
    with pytest.raises(RangeError, match=r"PruneChannels\(macs=0.001\).*nothing below") as error:
        PruneChannels(macs=0.001)(candidate, task)
    assert "\n" not in str(error.value)
    nearest = float(str(error.value).split("nothing below ")[1].split(" ")[0])
    done = pruned(PruneChannels(macs=nearest))
    assert counted(done).macs <= nearest * counted(candidate).macs


def test_round_to_gives_multiples() -> None:
    candidate, _ = trained(digits_residual_spec)
    done = pruned(PruneChannels(macs=0.7, round_to=4))
    before = {la.name: la.shape[0] for la in candidate.network.layers()}
    for layer in done.network.layers():
        assert layer.shape[0] % 4 == 0 or layer.shape[0] == before[layer.name]


def test_what_the_criterion_needs_is_said() -> None:
    candidate, task = trained(digits_residual_spec)
    poor = dataclasses.replace(task, calibration=None)
    with pytest.raises(TaskError, match=r"PruneChannels needs task\.calibration"):
        PruneChannels(macs=0.7)(candidate, poor)
    done = PruneChannels(macs=0.7, criterion="l1")(candidate, poor).candidate
    assert counted(done).macs <= 0.7 * counted(candidate).macs


@dataclass(frozen=True)
class Pretended:
    """A latency that is a constant and something for each MAC."""

    constant_ms: float

    def __call__(self, candidate: Candidate) -> float:
        return self.constant_ms + counted(candidate).macs / 1e5


def test_latency_is_measured_on_candidates() -> None:
    candidate, task = trained(digits_plain_spec)
    measure = Pretended(0.01)
    stage = PruneChannels(latency=LatencyBudget(measure, 0.8), criterion="l1")
    done = stage(candidate, task).candidate
    assert 0.7 < measure(done) / measure(candidate) <= 0.8
    assert "Pretended(constant_ms=0.01)" in repr(stage)
    with pytest.raises(RangeError, match=r"no less than .* ms can be reached"):
        PruneChannels(latency=LatencyBudget(Pretended(1e6), 0.8), criterion="l1")(candidate, task)


GRADUAL = PruneChannelsGradually(PruneChannels(macs=0.5), FineTune(1, 0.01), 2)


@functools.cache
def rounds() -> StageResult:
    return GRADUAL(*trained(digits_residual_spec))


def test_rounds_come_to_the_same_budget() -> None:
    candidate, _ = trained(digits_residual_spec)
    result = rounds()
    share = counted(result.candidate).macs / counted(candidate).macs
    assert 0.42 < share <= 0.5
    names = {layer.name for layer in candidate.network.layers()}
    assert set(result.touched) | {skip.layer for skip in result.skipped} == names


def test_a_budget_out_of_reach_is_told_before_anything_is_trained() -> None:
    candidate, task = trained(digits_residual_spec)
    stage = PruneChannelsGradually(PruneChannels(macs=0.001), FineTune(1, 0.01), 2)
    with pytest.raises(RangeError, match=r"PruneChannels\(macs=0.001\).*nothing below"):
        stage(candidate, dataclasses.replace(task, finetune=lambda *_: pytest.fail("trained")))
    prune = PruneChannels(macs=0.9, floor=0.99)
    with pytest.raises(RangeError, match="no channel can go; let more layers in"):
        prune(candidate, task)


def test_a_killed_run_goes_on_after_its_last_round(tmp_path: Path) -> None:
    candidate, task = trained(digits_residual_spec)
    whole = rounds().candidate
    trainings: list[int] = []

    def dies_in_round_two(model: nn.Module, tuning: Tuning) -> None:
        trainings.append(len(trainings))
        if len(trainings) == 2:
            raise KeyboardInterrupt
        train(model, tuning)

    scratch = tmp_path / "00-stage.progress"
    dying: Task = dataclasses.replace(task, finetune=dies_in_round_two, scratch=scratch)
    with pytest.raises(KeyboardInterrupt):
        GRADUAL(candidate, dying)
    again = GRADUAL(candidate, dying).candidate  # the third training is that of round two
    assert len(trainings) == 3
    assert again.digest() == whole.digest()
    assert list(tmp_path.iterdir()) == []
    scratch.with_suffix(".round1").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="cannot be resumed from"):
        GRADUAL(candidate, dying)


def test_without_training_and_repair_batch_norms_are_estimated_anew() -> None:
    candidate, task = trained(digits_residual_spec)
    prune = PruneChannels(macs=0.6, criterion="l1", repair=False)
    plain = pruned(prune)
    settled = PruneChannelsGradually(prune, None, 1)(candidate, task).candidate
    assert settled.edits == plain.edits
    means = [n for n in plain.network.state() if n.endswith("running_mean")]
    assert any((plain.network.state()[n] != settled.network.state()[n]).any() for n in means)
