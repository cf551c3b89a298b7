"""Pruning in rounds: each pace's known values, and stages that end where they were asked to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import RangeError
from compress.stage import run
from compress.stages.fine_tune import FineTune
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.schedules import Pace, in_rounds, paced
from tests.digits import Trained

PACES: list[Pace] = ["geometric", "cubic", "linear"]
TRAIN = FineTune(1, 0.05)


@pytest.mark.parametrize("pace", PACES)
@given(
    final=st.integers(1, 999).map(lambda n: n / 1000),
    done=st.lists(st.floats(0.001, 1), min_size=2, max_size=2).map(sorted),
)
def test_sparsity_rises_and_ends_at_the_final_one(
    pace: Pace, final: float, done: list[float]
) -> None:
    early, late = (paced(final, d, pace) for d in done)
    assert isinstance(early, float)
    assert isinstance(late, float)
    assert 0 <= early <= late <= final
    assert paced(final, 1, pace) == final


def test_the_papers_formulas() -> None:
    # Zhu and Gupta, eq. 1, with an initial sparsity of 0.
    assert paced(0.8, 0.5, "cubic") == pytest.approx(0.8 - 0.8 * 0.5**3)
    # Twice the same fraction of what is left: 0.1 * 0.1 = 0.01 remain.
    assert paced(0.99, 0.5, "geometric") == pytest.approx(0.9)
    assert paced(0.6, 0.25, "linear") == 0.15


def test_pairs_are_paced_each_for_itself() -> None:
    pairs = (("conv*", 0.64), ("fc", 0.99))
    assert paced(pairs, 0.5, "geometric") == (("conv*", 0.4), ("fc", 0.9))


def test_rounds_alternate_and_keep_the_settings() -> None:
    prune = PruneMagnitude(0.99, exclude=("fc",), scope="lamp")
    stages = in_rounds(prune, TRAIN, 2)
    assert stages == (
        PruneMagnitude(0.9, exclude=("fc",), scope="lamp"),
        TRAIN,
        prune,
        TRAIN,
    )
    assert in_rounds(prune, TRAIN, 1) == (prune, TRAIN)


def test_a_run_in_rounds_reaches_the_sparsity_and_resumes(
    trained_net: Trained, tmp_path: Path
) -> None:
    candidate, task = trained_net
    stages = in_rounds(PruneMagnitude(0.9), TRAIN, 2, "cubic")
    done = run(candidate, stages, task, folder=tmp_path)
    own = done.network.parameters()
    for layer in candidate.network.layers():
        zeros = int((own[layer.weight] == 0).sum())
        assert zeros >= math.floor(0.9 * own[layer.weight].size)
    newest = max(tmp_path.glob("*.safetensors"))
    newest.unlink()  # as if killed in the last training
    assert run(candidate, stages, task, folder=tmp_path, resume=True).digest() == done.digest()


@pytest.mark.parametrize("rounds", [0, -1, 1.5, True])
def test_bad_rounds_are_one_line(rounds: Any) -> None:
    with pytest.raises(RangeError, match=r"^in_rounds\(rounds=.*allowed") as caught:
        in_rounds(PruneMagnitude(0.5), TRAIN, rounds)
    assert "\n" not in str(caught.value)


def test_an_unknown_pace_is_refused() -> None:
    with pytest.raises(RangeError, match="'geometric', 'cubic', 'linear'"):
        in_rounds(PruneMagnitude(0.5), TRAIN, 2, "quadratic")  # type: ignore[arg-type]
