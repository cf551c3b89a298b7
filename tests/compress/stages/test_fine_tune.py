"""FineTune: training inside the encodings; a loop that does nothing is the identity."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import RangeError, TaskError
from compress.spec import Preprocess
from compress.stage import run
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Tuning
from recipes.toolbox.training import Trainer
from tests.digits import Trained
from tests.recipes.pictures import digit_splits


@pytest.fixture(scope="module")
def variants(trained_net: Trained) -> dict[str, Candidate]:
    """One candidate of each kind of encoding."""
    candidate, task = trained_net
    pruned = PruneMagnitude(0.6)(candidate, task).candidate
    shared = ShareWeights(4)(pruned, task).candidate
    folded = FoldBatchNorm()(candidate, task).candidate
    int8 = QuantizeInt8()(folded, task).candidate
    both = QuantizeInt8()(FoldBatchNorm()(shared, task).candidate, task).candidate
    return {"dense": candidate, "pruned": pruned, "shared": shared, "int8": int8, "both": both}


KINDS = ["dense", "pruned", "shared", "int8", "both"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_training_is_the_identity(
    trained_net: Trained, variants: dict[str, Candidate], kind: str
) -> None:
    task, start = trained_net.task, variants[kind]
    lazy = replace(task, finetune=lambda _model, _tuning: None)
    for stage, given in ((FineTune(0, 0.1), task), (FineTune(1, 0.1), lazy)):
        result = stage(start, given)
        assert result.candidate.digest() == start.digest()
        assert result.touched == ()


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_weights_inside_their_encodings(
    trained_net: Trained, variants: dict[str, Candidate], kind: str
) -> None:
    start = variants[kind]
    result = FineTune(1, 0.05)(start, trained_net.task)
    result.candidate.check()
    assert len(result.touched) >= 3  # an int8 weight moves only by half a step
    assert result.candidate.activations == start.activations
    for name, old in start.encodings.items():
        new = result.candidate.encodings[name]
        assert (result.candidate.network.parameters()[name][old.zeros()] == 0).all()
        if isinstance(old, Encoded) and isinstance(new, Encoded):
            assert new.on_integers == old.on_integers
            assert np.array_equal(new.scale, old.scale)
            if kind in ("shared", "both"):
                assert np.array_equal(new.indices, old.indices)
            if kind == "int8":
                assert new.codebook.size == 256
                assert np.abs(new.integers().astype(int)).max() <= 127


def test_it_wins_back_what_pruning_lost(trained_net: Trained) -> None:
    candidate, task = trained_net
    pruned = PruneMagnitude(0.85)(candidate, task).candidate
    tuned = FineTune(3, 0.05)(pruned, task).candidate
    lost, won = (task.evaluate(c.predict)["top1"] for c in (pruned, tuned))
    assert won > lost
    assert won >= task.evaluate(candidate.predict)["top1"] - 0.03


def test_batch_norm_learns_on(trained_net: Trained) -> None:
    candidate, task = trained_net
    tuned = FineTune(1, 0.02)(candidate, task).candidate
    before, after = candidate.network.state(), tuned.network.state()
    assert after["bn1.num_batches_tracked"] > before["bn1.num_batches_tracked"]
    assert not np.array_equal(before["bn1.running_mean"], after["bn1.running_mean"])


def test_the_loop_is_told_how_and_the_net_is_ready(trained_net: Trained, tmp_path: Path) -> None:
    candidate, task = trained_net
    told: list[Tuning] = []

    def loop(model: nn.Module, tuning: Tuning) -> None:
        assert model.training
        assert all(p.requires_grad for p in model.parameters())
        told.append(tuning)

    given = replace(task, finetune=loop, seed=7, scratch=tmp_path / "x.progress")
    FineTune(3, 0.25)(candidate, given)
    assert told == [Tuning(3, 0.25, 7, tmp_path / "x.progress")]


def test_random_draws_follow_the_seed_and_leave_the_callers_alone(trained_net: Trained) -> None:
    candidate, task = trained_net

    def noisy(model: nn.Module, _tuning: Tuning) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape))

    given = replace(task, finetune=noisy)
    torch.manual_seed(5)
    first = FineTune(1, 0.1)(candidate, given).candidate.digest()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert FineTune(1, 0.1)(candidate, given).candidate.digest() == first
    assert FineTune(1, 0.1)(candidate, replace(given, seed=1)).candidate.digest() != first


@pytest.mark.parametrize("kind", ["dense", "shared"])
def test_nan_is_refused_by_name(
    trained_net: Trained, variants: dict[str, Candidate], kind: str
) -> None:
    task, start = trained_net.task, variants[kind]

    def explode(model: nn.Module, _tuning: Tuning) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)

    with pytest.raises(TaskError, match=r"FineTune: 'stem\.0\.weight.*lower it$") as caught:
        FineTune(1, 10.0)(start, replace(task, finetune=explode))
    assert "\n" not in str(caught.value)


def test_a_task_without_training_is_refused(trained_net: Trained) -> None:
    candidate, task = trained_net
    with pytest.raises(TaskError, match=r"FineTune needs task\.finetune"):
        FineTune(1, 0.1)(candidate, replace(task, finetune=None))


@pytest.mark.parametrize(
    ("epochs", "rate"), [(-1, 0.1), (1.5, 0.1), (1, 0.0), (1, -1.0), (1, math.nan), (1, math.inf)]
)
def test_bad_settings_are_one_line(epochs: int, rate: float) -> None:
    with pytest.raises(RangeError, match=r"^FineTune\(.*allowed"):
        FineTune(epochs, rate)


REFRESHED = FineTune(3, 0.05, refresh=True)


def test_assignments_are_refreshed_between_epochs_and_zeros_stay(
    trained_net: Trained, variants: dict[str, Candidate]
) -> None:
    start = variants["shared"]
    tuned = REFRESHED(start, trained_net.task).candidate
    tuned.check()
    changed = 0
    for name, old in start.encodings.items():
        new = tuned.encodings[name]
        assert isinstance(old, Encoded)
        assert isinstance(new, Encoded)
        assert ((new.indices == 0) == (old.indices == 0)).all()
        assert new.indices.dtype == old.indices.dtype
        changed += int((new.indices != old.indices).sum())
    assert changed > 0
    kept = FineTune(3, 0.05)(start, trained_net.task).candidate
    scores = [trained_net.task.evaluate(c.predict)["top1"] for c in (tuned, kept)]
    assert scores[0] >= scores[1] - 0.02


def test_one_epoch_is_trained_with_the_assignments_as_they_are(
    trained_net: Trained, variants: dict[str, Candidate]
) -> None:
    start = variants["shared"]
    tuned = FineTune(1, 0.05, refresh=True)(start, trained_net.task).candidate
    assert tuned.digest() == FineTune(1, 0.05)(start, trained_net.task).candidate.digest()


@pytest.mark.parametrize("kind", ["dense", "pruned", "int8"])
def test_without_clusters_refreshing_changes_nothing(
    trained_net: Trained, variants: dict[str, Candidate], kind: str
) -> None:
    start, task = variants[kind], trained_net.task
    assert REFRESHED(start, task).candidate.digest() == (
        FineTune(3, 0.05)(start, task).candidate.digest()
    )


def test_a_killed_refreshing_goes_on_to_the_same_bytes(
    trained_net: Trained, variants: dict[str, Candidate], tmp_path: Path
) -> None:
    data = digit_splits().train
    trainer = Trainer(data.images, data.labels, Preprocess(channel_order="GREY", scale=1 / 16))

    def killed(model: nn.Module, tuning: Tuning) -> None:
        def die(epoch: int) -> None:
            tuning.after_epoch(epoch)
            if epoch == 1:  # the state after epoch 1 has been kept
                raise ZeroDivisionError

        trainer(model, replace(tuning, after_epoch=die))

    stage, start = FineTune(3, 0.01, refresh=True), variants["shared"]
    task = replace(trained_net.task, finetune=trainer)
    whole = run(start, [stage], task)
    with pytest.raises(ZeroDivisionError):
        run(start, [stage], replace(task, finetune=killed), folder=tmp_path)
    assert list(tmp_path.glob("*.progress"))
    again = run(start, [stage], task, folder=tmp_path, resume=True)
    assert again.digest() == whole.digest()


def test_a_loop_that_refreshes_nothing_is_refused(
    trained_net: Trained, variants: dict[str, Candidate]
) -> None:
    deaf = replace(trained_net.task, finetune=lambda _model, _tuning: None)
    with pytest.raises(TaskError, match=r"refreshed 0 times in 3 epochs.*after_epoch") as caught:
        REFRESHED(variants["shared"], deaf)
    assert "\n" not in str(caught.value)
