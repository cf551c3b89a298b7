"""PruneGradually: sparsity rises between epochs, resumes to the same bytes, and says what fails."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from compress.candidate import Candidate
from compress.encoding import Encoded, Masked
from compress.errors import TaskError
from compress.spec import Preprocess
from compress.stage import run
from compress.stages.fine_tune import FineTune
from compress.stages.prune_gradually import PruneGradually
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.share_weights import ShareWeights
from compress.task import Tuning
from recipes.toolbox.training import Trainer
from tests.digits import Trained, train
from tests.recipes.pictures import digit_splits

GREY = Preprocess(channel_order="GREY", scale=1 / 16)
LAMP = PruneMagnitude(0.9, scope="lamp")
TRAIN = FineTune(4, 0.05)


def zeros(candidate: Candidate) -> int:
    own = candidate.network.parameters()
    return sum(int((own[la.weight] == 0).sum()) for la in candidate.network.layers())


def total(candidate: Candidate) -> int:
    own = candidate.network.parameters()
    return sum(own[la.weight].size for la in candidate.network.layers())


@pytest.mark.parametrize("prune", [LAMP, PruneMagnitude(0.9), PruneMagnitude(0.9, scope="global")])
def test_the_sparsity_asked_for_is_reached(trained_net: Trained, prune: PruneMagnitude) -> None:
    candidate, task = trained_net
    result = PruneGradually(prune, TRAIN, 3)(candidate, task)
    result.candidate.check()
    assert zeros(result.candidate) >= math.floor(0.9 * total(candidate)) - 5
    assert all(isinstance(e, Masked) for e in result.candidate.encodings.values())
    assert result.touched == tuple(layer.name for layer in candidate.network.layers())
    before, after = (task.evaluate(c.predict)["top1"] for c in (candidate, result.candidate))
    assert after >= before - 0.06


def test_sparsity_rises_along_the_cubic(trained_net: Trained) -> None:
    candidate, task = trained_net
    seen: list[float] = []

    def loop(model: nn.Module, tuning: Tuning) -> None:
        for epoch in range(tuning.epochs):
            weight = model.get_parameter("conv1.parametrizations.weight.original")
            acting = model.get_submodule("conv1").weight
            assert acting.shape == weight.shape
            seen.append(float((acting == 0).float().mean()))
            tuning.after_epoch(epoch)

    stage = PruneGradually(PruneMagnitude(0.8, include=("conv1",)), TRAIN, 3)
    stage(candidate, replace(task, finetune=loop))
    expected = [0.8 * (1 - (1 - step / 3) ** 3) for step in (1, 2, 3, 3)]
    assert seen == pytest.approx(expected, abs=0.01)


def test_zeros_from_before_stay(trained_net: Trained) -> None:
    candidate, task = trained_net
    first = PruneMagnitude(0.6)(candidate, task).candidate
    more = PruneGradually(LAMP, TRAIN, 3)(first, task).candidate
    for name, encoding in first.encodings.items():
        assert (more.network.parameters()[name][encoding.zeros()] == 0).all()


def test_shared_weights_are_pruned_too_and_keep_their_clusters(trained_net: Trained) -> None:
    candidate, task = trained_net
    shared = ShareWeights(4)(candidate, task).candidate
    pruned = PruneGradually(PruneMagnitude(0.8), TRAIN, 2)(shared, task).candidate
    pruned.check()
    for name, old in shared.encodings.items():
        new = pruned.encodings[name]
        assert isinstance(old, Encoded)
        assert isinstance(new, Encoded)
        kept = new.indices != 0
        assert np.array_equal(new.indices[kept], old.indices[kept])
        assert (~kept).sum() >= math.floor(0.8 * kept.size)


def test_layers_left_alone_are_said(trained_net: Trained) -> None:
    candidate, task = trained_net
    prune = PruneMagnitude((("conv1", 0.5), ("fc", 0.0)))
    result = PruneGradually(prune, FineTune(1, 0.05), 1)(candidate, task)
    reasons = {s.layer: s.reason for s in result.skipped}
    assert result.touched == ("conv1",)
    assert reasons["fc"] == "sparsity 0"
    assert reasons["stem.0"] == "no sparsity is given for it"


def test_a_killed_training_goes_on_to_the_same_bytes(trained_net: Trained, tmp_path: Path) -> None:
    candidate, task = trained_net
    data = digit_splits().train
    trainer = Trainer(data.images, data.labels, GREY, shift=1)
    stage = PruneGradually(LAMP, FineTune(4, 0.01), 3)

    def killed(model: nn.Module, tuning: Tuning) -> None:
        def die(epoch: int) -> None:
            tuning.after_epoch(epoch)
            if epoch == 2:  # the states after epochs 1 and 2 have been kept
                raise ZeroDivisionError

        trainer(model, replace(tuning, after_epoch=die))

    whole = run(candidate, [stage], replace(task, finetune=trainer))
    folder = tmp_path / "steps"
    with pytest.raises(ZeroDivisionError):
        run(candidate, [stage], replace(task, finetune=killed), folder=folder)
    assert len(list(folder.glob("*.progress"))) == 1
    again = run(candidate, [stage], replace(task, finetune=trainer), folder=folder, resume=True)
    assert again.digest() == whole.digest()


def test_a_loop_that_calls_nothing_after_an_epoch_is_refused(trained_net: Trained) -> None:
    candidate, task = trained_net

    def deaf(model: nn.Module, tuning: Tuning) -> None:
        train(model, Tuning(tuning.epochs, tuning.learning_rate, tuning.seed, None))

    with pytest.raises(TaskError, match=r"must call tuning\.after_epoch") as caught:
        PruneGradually(LAMP, TRAIN, 3)(candidate, replace(task, finetune=deaf))
    assert "\n" not in str(caught.value)
