"""Distill: nearer to the float net without labels; deterministic, resumable, bounded."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress import scratch
from compress.candidate import Candidate
from compress.divergence import divergences
from compress.encoding import Encoded
from compress.errors import CheckpointError, RangeError, TaskError
from compress.stage import run
from compress.stages.distill import Distill
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from tests.digits import digits, trained
from tests.nets import digits_plain_spec, digits_residual_spec

INT4 = QuantizeInt8(weight_bits=4)
PICTURES = digits()["validation"].images


@pytest.fixture(scope="module")
def folded() -> Candidate:
    candidate, given = trained(digits_residual_spec)
    return FoldBatchNorm()(candidate, given).candidate


def task(**changes: Any) -> Task:
    return replace(trained(digits_residual_spec).task, finetune=None, **changes)


def divergence(reference: Candidate, other: Candidate) -> float:
    return float(divergences(reference.predict(PICTURES), other.predict(PICTURES)).mean())


@pytest.mark.parametrize("trains", ["all", "biases"])
def test_answers_come_nearer_on_pictures_that_it_never_saw(folded: Candidate, trains: Any) -> None:
    plain = INT4(folded, task()).candidate
    done = Distill(INT4, steps=60, learning_rate=1e-3, batch=32, trains=trains)(folded, task())
    done.candidate.check()
    assert set(done.touched) == {layer.name for layer in folded.network.layers()}
    assert divergence(folded, done.candidate) < 0.5 * divergence(folded, plain)


def test_with_biases_alone_integers_change_only_where_their_steps_do(folded: Candidate) -> None:
    done = Distill(steps=3, trains="biases")(folded, task()).candidate
    plain = QuantizeInt8()(folded, task()).candidate
    assert (done.network.parameters()["fc.bias"] != plain.network.parameters()["fc.bias"]).any()
    for name, encoding in plain.encodings.items():
        found = done.encodings[name]
        assert isinstance(found, Encoded)
        assert isinstance(encoding, Encoded)
        moved = np.abs(found.integers().astype(int) - encoding.integers())
        assert moved.max() <= 1


def test_no_steps_only_quantize_and_pruned_weights_stay_zero(folded: Candidate) -> None:
    plain = QuantizeInt8()(folded, task()).candidate
    assert Distill(steps=0)(folded, task()).candidate.digest() == plain.digest()
    pruned = PruneMagnitude(0.5)(folded, task()).candidate
    done = Distill(steps=3, learning_rate=1e-2, trains="all")(pruned, task()).candidate
    for name, mask in pruned.encodings.items():
        assert not done.network.parameters()[name][mask.zeros()].any()


class Tied(nn.Module):
    """Two layers of one weight, each with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.fc = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.two(F.relu(self.one(x.flatten(1))))))


def test_tied_weights_train_as_one() -> None:
    spec = replace(digits_plain_spec(), builder=f"{__name__}:Tied")
    start = Candidate.untrained(spec, 0)
    done = Distill(steps=2, learning_rate=1e-3, trains="all")(start, task()).candidate
    done.check()
    state = done.network.state()
    np.testing.assert_array_equal(state["one.weight"], state["two.weight"])
    assert (state["one.weight"] != start.network.state()["one.weight"]).any()


def test_a_killed_distillation_goes_on_to_the_same_bytes(
    folded: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Distill(steps=6, batch=32)
    whole = run(folded, [stage], task())
    monkeypatch.setattr(scratch, "EVERY_S", 0.0)
    kept = scratch.Scratch.keep

    def die(self: scratch.Scratch, done: int) -> None:
        kept(self, done)
        if done == 4:
            raise ZeroDivisionError

    monkeypatch.setattr(scratch.Scratch, "keep", die)
    with pytest.raises(ZeroDivisionError):
        run(folded, [stage], task(), folder=tmp_path)
    monkeypatch.setattr(scratch.Scratch, "keep", kept)
    (path,) = tmp_path.glob("*.progress")
    again = run(folded, [stage], task(), folder=tmp_path, resume=True)
    assert again.digest() == whole.digest()
    assert not path.exists()


def test_a_damaged_state_is_said_in_one_line(folded: Candidate, tmp_path: Path) -> None:
    path = tmp_path / "x.progress"
    path.write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=r"x\.progress cannot be resumed.*delete") as caught:
        Distill(steps=2)(folded, task(scratch=path))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"no state"


def test_what_takes_less_than_a_minute_keeps_no_state(folded: Candidate, tmp_path: Path) -> None:
    Distill(steps=1)(folded, task(scratch=tmp_path / "x.progress"))
    assert not list(tmp_path.iterdir())


def test_answers_that_are_no_numbers_are_said(folded: Candidate) -> None:
    said = r"Distill: NaN or infinity after 0 steps at learning rate 2e-05 and temperature 1e-38; "
    with pytest.raises(TaskError, match=said) as caught:
        Distill(steps=1, temperature=1e-38)(folded, task())
    assert "\n" not in str(caught.value)


def test_pictures_come_in_small_batches_one_calibration_batch_at_a_time(
    folded: Candidate,
) -> None:
    alive = 0

    def calibration() -> Any:
        nonlocal alive
        for batch in np.split(digits()["calibration"].images, 4):
            alive += 1
            yield batch

    plain = Distill(steps=0)
    plain(folded, task(calibration=calibration))
    for_grids, alive = alive, 0
    Distill(steps=3, batch=20)(folded, task(calibration=calibration))
    # 32 pictures a batch are blocks of 20 and 12: three blocks are the first two batches.
    assert alive == for_grids + 2


@pytest.mark.parametrize(
    "wrong",
    [{"steps": -1}, {"batch": 0}, {"temperature": math.inf}, {"trains": "weights"}],
)
def test_bad_settings_are_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(RangeError, match=r"^Distill\(.*allowed"):
        Distill(**{"steps": 1, **wrong})
