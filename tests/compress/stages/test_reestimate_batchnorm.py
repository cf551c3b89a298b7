"""ReestimateBatchNorm: statistics of the finished net, exactly, over all pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import ActivationQuant, Candidate
from compress.errors import StageOrderError, TaskError
from compress.graph import TensorId
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.reestimate_batchnorm import ReestimateBatchNorm
from compress.task import Batch
from tests.digits import Trained, digits

PICTURES = digits()["calibration"].images


@pytest.fixture(params=["trained_residual", "trained_branch"])
def pruned(request: pytest.FixtureRequest) -> Trained:
    candidate, task = request.getfixturevalue(request.param)
    return Trained(PruneMagnitude(0.7)(candidate, task).candidate, task)


def test_every_norm_has_the_statistics_of_its_inputs(pruned: Trained) -> None:
    start, task = pruned
    result = ReestimateBatchNorm()(start, task)
    result.candidate.check()
    seen = result.candidate.network.activations(PICTURES)
    state, old = result.candidate.network.state(), start.network.state()
    norms = [n for n in start.network.graph.nodes if n.id.operator == "batch_norm"]
    assert len(result.touched) == len(norms) > 3
    for node in norms:
        values = seen[node.inputs[0]].astype(np.float64)
        mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), ddof=1)
        found = state[node.parameters["running_mean"]]
        np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state[node.parameters["running_var"]], variance, rtol=1e-4)
        assert not np.allclose(old[node.parameters["running_mean"]], found, rtol=1e-3)
    named = {name for node in norms for role, name in node.parameters.items() if "running" in role}
    for name in state.keys() - named:
        np.testing.assert_array_equal(state[name], old[name])
    assert result.candidate.encodings == start.encodings


def test_it_is_torch_training_mode_on_one_batch_of_all(pruned: Trained) -> None:
    start, task = pruned
    model = start.network.module()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(PICTURES.copy()))
    state = ReestimateBatchNorm()(start, task).candidate.network.state()
    for name, value in model.state_dict().items():
        if "running" in name:
            np.testing.assert_allclose(state[name], value.numpy(), rtol=2e-3, atol=1e-4)


def test_it_mends_what_pruning_moved(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    broken = PruneMagnitude(0.8)(candidate, task).candidate
    mended = ReestimateBatchNorm()(broken, task).candidate
    scores = [task.evaluate(net.predict)["top1"] for net in (broken, mended)]
    assert scores[1] > scores[0] + 0.02


def test_again_changes_nothing(pruned: Trained) -> None:
    once = ReestimateBatchNorm()(*pruned).candidate
    again = ReestimateBatchNorm()(once, pruned.task).candidate
    assert again.digest() == once.digest()


def test_without_batch_norm_it_comes_back_as_it_is(trained_residual: Trained) -> None:
    folded = FoldBatchNorm()(*trained_residual).candidate
    poor = dataclasses.replace(trained_residual.task, calibration=None)
    result = ReestimateBatchNorm()(folded, poor)
    assert result.candidate.digest() == folded.digest()
    assert result.touched == result.skipped == ()


def test_refusals(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    grids = {TensorId("", "input"): ActivationQuant(0.1, 0)}
    quantized = dataclasses.replace(candidate, activations=grids)
    with pytest.raises(StageOrderError, match="put ReestimateBatchNorm before QuantizeInt8"):
        ReestimateBatchNorm()(quantized, task)
    poor = dataclasses.replace(task, calibration=None)
    with pytest.raises(TaskError, match=r"ReestimateBatchNorm needs task.calibration"):
        ReestimateBatchNorm()(candidate, poor)


class Features(nn.Module):
    """A batch norm of features, and one that keeps no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.BatchNorm2d(1, track_running_stats=False)
        self.fc = nn.Linear(64, 10)
        self.norm = nn.BatchNorm1d(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(self.none(x).flatten(1)))


def features() -> nn.Module:
    return Features()


def test_one_value_has_no_variance_and_no_statistics_none(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    spec = dataclasses.replace(
        candidate.spec, builder="tests.compress.stages.test_reestimate_batchnorm:features"
    )
    start = Candidate.untrained(spec, 0)

    def one() -> Iterator[Batch]:
        yield PICTURES[:1]

    with pytest.raises(TaskError, match=r"'norm' one value a channel.* at least two pictures"):
        ReestimateBatchNorm()(start, dataclasses.replace(task, calibration=one))
    result = ReestimateBatchNorm()(start, task)
    assert result.touched == ("norm",)
    assert [(s.layer, s.reason) for s in result.skipped] == [
        ("none", "it keeps no running statistics")
    ]
