"""Every stage has a form without training: of the same structure, encodings and grids."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.stage import Stage, apply, stage_name
from compress.stages.correct_bias import CorrectBias
from compress.stages.distill import Distill
from compress.stages.fine_tune import FineTune
from compress.stages.prune_gradually import PruneGradually
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.train_int8 import TrainInt8
from compress.task import Task
from compress.untrained import untrained, untrained_all
from tests.contracts.test_stages import STAGES, base, example, first, task

# Its sizes are what it looks for in the values.
_BY_VALUES = ("ShareByRate", "FactorizeSVD", "PruneChannels", "PruneChannelsGradually")


def forbidden(*given: Any) -> None:
    raise AssertionError(f"trained: {given}")


def dry() -> Task:
    return dataclasses.replace(task(), finetune=forbidden)


def form(candidate: Candidate, stages: tuple[Stage, ...]) -> Candidate:
    for stage in stages:
        candidate = apply(candidate, stage, dry())
    return candidate


def shapes(candidate: Candidate) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in candidate.network.parameters().items()}


@pytest.mark.parametrize("name", STAGES)
def test_it_gives_the_same_form_without_training(name: str) -> None:
    trained = first("folded", name)
    assert isinstance(trained, Candidate)
    planned = form(base("folded"), untrained(example(name)))
    assert planned.activations.keys() == trained.activations.keys()
    if name in _BY_VALUES:
        return
    assert planned.edits == trained.edits
    assert shapes(planned) == shapes(trained)
    assert {n: type(e) for n, e in planned.encodings.items()} == {
        n: type(e) for n, e in trained.encodings.items()
    }
    for n, encoding in trained.encodings.items():
        other = planned.encodings[n]
        if isinstance(encoding, Encoded) and isinstance(other, Encoded):
            assert other.on_integers == encoding.on_integers
            assert other.bits == encoding.bits
        zeros = [int(np.count_nonzero(c.network.parameters()[n] == 0)) for c in (planned, trained)]
        assert zeros[0] == pytest.approx(zeros[1], abs=0.03 * encoding.zeros().size + 2)


@pytest.mark.parametrize("name", STAGES)
def test_a_form_is_its_own_form(name: str) -> None:
    once = untrained(example(name))
    assert untrained_all(once) == once
    assert all(stage.changes in ("structure", "values") for stage in once)


def test_a_wrapping_stage_passes_on_to_what_it_wraps() -> None:
    inner = (PruneGradually(PruneMagnitude(0.5), FineTune(4, 0.1), 2), QuantizeInt8())
    wanted = (PruneMagnitude(0.5), FineTune(0, 0.1), QuantizeInt8())
    assert untrained(CorrectBias(inner)) == wanted
    assert untrained(Distill(inner, steps=9)) == (Distill(wanted, steps=0),)
    assert untrained(TrainInt8(3, 0.1, inner)) == (TrainInt8(0, 0.1, wanted),)


def test_a_stage_that_says_nothing_runs_as_it_is() -> None:
    stage = PruneMagnitude(0.5)
    assert untrained(stage) == (stage,)


def test_apply_records_what_was_done_and_no_metrics() -> None:
    done = apply(base("folded"), PruneMagnitude(0.5), dry())
    step = done.history[-1]
    assert (step.stage, step.metrics, step.checkpoint) == (stage_name(PruneMagnitude(0.5)), {}, "")
    assert step.nonzeros < step.parameters
    assert step.digest == done.digest()
