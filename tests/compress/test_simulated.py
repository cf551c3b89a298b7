"""A model on grids: what it computes in eval mode is simulate's; names stay; nothing is left."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import Candidate
from compress.constrained import Constrained, constrained
from compress.errors import TaskError
from compress.graph import TensorId
from compress.simulate import simulate
from compress.simulated import FROZEN, STEPS
from compress.spec import ModelSpec, TensorSpec
from compress.stages.acting_norms import with_acting_norms
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from tests.digits import digits, trained
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec

SPECS = {
    "plain": digits_plain_spec,
    "residual": digits_residual_spec,
    "branch": digits_branch_spec,
}
IMAGES = torch.from_numpy(digits()["validation"].images[:64])


@functools.cache
def folded(kind: str) -> Candidate:
    candidate, task = trained(SPECS[kind])
    return FoldBatchNorm()(candidate, task).candidate


@functools.cache
def int8(kind: str) -> Candidate:
    return QuantizeInt8()(folded(kind), trained(SPECS[kind]).task).candidate


def acting(kind: str) -> Candidate:
    return with_acting_norms(trained(SPECS[kind]).candidate, int8(kind))


def computed(held: Constrained) -> dict[TensorId, np.ndarray]:
    """Every tensor of the model in eval mode, for IMAGES."""
    simulation, found = held.simulation, {}
    assert simulation is not None
    place = simulation.on_grid

    def keep(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        found[tensor] = place(tensor, value)
        return found[tensor]

    simulation.on_grid = keep  # type: ignore[method-assign]
    vars(simulation).pop("_runner", None)
    with torch.no_grad():
        held.model.eval()(IMAGES)
    return {tensor: value.numpy() for tensor, value in found.items()}


def check_alike(found: dict[TensorId, np.ndarray], candidate: Candidate) -> None:
    """As simulate on the same inputs: equal, but where a sum lies on the edge of two codes."""
    seen: list[TensorId] = []

    def compare(tensor: TensorId, value: np.ndarray) -> np.ndarray:
        grid = candidate.activations.get(tensor)
        if grid is not None:
            seen.append(tensor)
            apart = np.abs(found[tensor] - value) / grid.scale
            assert apart.max() < 1.001, tensor
            assert (apart > 0.001).mean() < 0.005, tensor
        return found[tensor]

    simulate(candidate).walk(IMAGES.numpy(), compare)
    assert seen == list(candidate.activations)


@pytest.mark.parametrize("learn_steps", [False, True])
@pytest.mark.parametrize("kind", SPECS)
def test_in_eval_mode_the_model_computes_what_simulate_does(kind: str, learn_steps: bool) -> None:
    candidate = int8(kind)
    with constrained(candidate, learn_steps=learn_steps) as held:
        found = computed(held)
    check_alike(found, candidate)
    assert held.result.digest() == candidate.digest()


@pytest.mark.parametrize("kind", SPECS)
def test_after_training_simulate_computes_what_the_model_did(kind: str) -> None:
    with constrained(int8(kind), learn_steps=True) as held:
        optimizer = torch.optim.SGD(held.model.parameters(), lr=0.01, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(held.model(IMAGES), torch.arange(64) % 10).backward()
            optimizer.step()
        found = computed(held)
    held.result.check()
    assert held.result.digest() != int8(kind).digest()
    with constrained(held.result, learn_steps=True) as again, torch.no_grad():
        again.model.get_parameter(STEPS).add_(0.1)
    assert {g.observer for g in again.result.activations.values()} == {"minmax", "minmax, learnt"}
    check_alike(found, held.result)


@pytest.mark.parametrize("kind", SPECS)
def test_names_and_order_stay_and_nothing_is_left(kind: str) -> None:
    candidate = int8(kind)
    before = [name for name, _ in candidate.network.module().named_parameters()]
    with constrained(candidate) as held:
        inside = [n.replace("parametrizations.", "") for n, _ in held.model.named_parameters()]
        assert sorted(n.removesuffix(".original") for n in inside) == sorted(before)
        state = held.model.state_dict()
        assert STEPS not in state
        assert FROZEN not in state
    assert "forward" not in vars(held.model)
    with constrained(candidate, learn_steps=True) as held:
        assert STEPS in dict(held.model.named_parameters())
    assert not hasattr(held.model, STEPS)
    assert "forward" not in vars(held.model)


def test_tied_tensors_share_a_step_and_the_inputs_stays() -> None:
    candidate = int8("branch")
    with constrained(candidate, learn_steps=True) as held, torch.no_grad():
        held.model.get_parameter(STEPS).copy_(torch.linspace(0.1, 0.2, 64)[: _groups(held.model)])
    grids = held.result.activations
    assert candidate.ties
    for tie in candidate.ties:
        assert len({grids[tensor].scale for tensor in tie}) == 1
    kept = [t for t in grids if grids[t] == candidate.activations[t]]
    assert [t.operator for t in kept] == ["input"]
    for tensor in set(grids) - set(kept):
        assert 1.1 < grids[tensor].scale / candidate.activations[tensor].scale < 1.23
        assert grids[tensor].zero_point == candidate.activations[tensor].zero_point


def _groups(model: nn.Module) -> int:
    return model.get_parameter(STEPS).numel()


def test_every_learnt_step_gets_a_gradient() -> None:
    with constrained(int8("branch"), learn_steps=True) as held:
        F.cross_entropy(held.model(IMAGES), torch.arange(64) % 10).backward()
        steps = {n: p for n, p in held.model.named_parameters() if "learnt" in n or n == STEPS}
        assert len(steps) > 5
        for name, parameter in steps.items():
            assert parameter.grad is not None
            assert bool((parameter.grad != 0).any()), name


def test_a_copied_model_computes_with_its_own_parameters() -> None:
    with constrained(int8("residual"), learn_steps=True) as held, torch.no_grad():
        twin = copy.deepcopy(held.model).eval()
        before = held.model.eval()(IMAGES)
        assert torch.equal(twin(IMAGES), before)
        twin.get_parameter("fc.bias").add_(3.0)
        assert torch.equal(held.model(IMAGES), before)
        assert not torch.equal(twin(IMAGES), before)


def test_batch_norm_acts_by_the_batch_until_it_is_frozen() -> None:
    candidate = acting("residual")
    with constrained(candidate) as held, torch.no_grad():
        assert held.simulation is not None
        norm = held.model.get_submodule("bn1")
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        evaluated, mean = held.model.eval()(IMAGES), norm.running_mean.clone()
        assert torch.equal(norm.running_mean, mean)
        training = held.model.train()(IMAGES)
        assert not torch.equal(training, evaluated)
        learnt = norm.running_mean.clone()
        assert not torch.equal(learnt, mean)
        held.simulation.freeze_norms()
        held.model.train()(IMAGES)
        assert torch.equal(norm.running_mean, learnt)
        assert torch.equal(held.model(IMAGES), held.model.eval()(IMAGES))
        assert bool(held.model.state_dict()[FROZEN])


def dropping() -> nn.Module:
    return Dropping()


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 40)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(40, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(F.relu(self.fc1(x.flatten(1))))
        return F.dropout(self.fc2(x), 0.9, self.training)


def dropping_int8() -> Candidate:
    spec = ModelSpec(f"{__name__}:dropping", inputs=(TensorSpec("input", (1, 1, 8, 8)),))
    start = Candidate.untrained(spec, 0)
    return QuantizeInt8()(start, trained(digits_plain_spec).task).candidate


def test_dropout_drops_in_training_alone_where_its_module_trains() -> None:
    with constrained(dropping_int8()) as held, torch.no_grad():
        assert 0.8 < float((held.model(IMAGES) == 0).float().mean()) < 0.97
        held.model.eval()
        still = held.model(IMAGES)
        assert torch.equal(held.model(IMAGES), still)
        held.model.get_submodule("drop").train()  # the module's own mode decides
        assert not torch.equal(held.model(IMAGES), still)
    expected = dropping_int8().predict(IMAGES.numpy())
    np.testing.assert_allclose(still.numpy(), expected, atol=0.01)


def test_a_net_of_one_picture_at_a_time_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = int8("residual")
    fixed = copy.copy(candidate.network.graph)
    object.__setattr__(fixed, "dynamic_batch", False)
    monkeypatch.setitem(candidate.network.__dict__, "graph", fixed)
    with constrained(candidate) as held:
        found = held.model.eval()(IMAGES)
        found.sum().backward()
        assert held.original("fc.weight").grad is not None
    np.testing.assert_allclose(
        found.detach().numpy(), int8("residual").predict(IMAGES.numpy()), atol=0.5
    )


def test_a_net_with_an_attribute_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, FROZEN, 1, raising=False)
    wanted = pytest.raises(TaskError, match="attribute 'norms_frozen'")
    with wanted as error, constrained(int8("plain")):
        pass
    assert "\n" not in str(error.value)
