from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.candidate import Candidate
from compress.edit import rebuild
from compress.undrawn import Undrawn
from tests import nets

INITIALISERS = {
    "uniform": nn.init.uniform_,
    "normal": nn.init.normal_,
    "Kaiming uniform": nn.init.kaiming_uniform_,
    "Kaiming normal": nn.init.kaiming_normal_,
    "Xavier uniform": nn.init.xavier_uniform_,
    "Xavier normal": nn.init.xavier_normal_,
    "tensor.normal_": lambda tensor: tensor.normal_(),
    "tensor.uniform_": lambda tensor: tensor.uniform_(),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_no_value_is_drawn(name: str) -> None:
    tensor = torch.full((4, 4), 7.0)
    before = torch.get_rng_state()
    with Undrawn():
        assert INITIALISERS[name](tensor) is tensor
    assert bool((tensor == 7).all())
    assert torch.equal(torch.get_rng_state(), before)


def test_constants_are_set_and_drawing_returns_afterwards() -> None:
    with Undrawn():
        layer = nn.BatchNorm2d(4)
        assert bool((layer.weight == 1).all())
        nn.init.constant_(layer.weight, 3)
    assert bool((layer.weight == 3).all())
    assert not bool((nn.init.normal_(layer.weight) == 3).any())


def test_a_builder_that_gives_the_same_module_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    only = nets.digits_plain()
    monkeypatch.setattr(nets, "digits_plain", lambda: only)
    spec = nets.digits_plain_spec()
    state = {name: tensor.numpy().copy() for name, tensor in only.state_dict().items()}
    first = Candidate.load(spec, state)
    digest = first.digest()
    zeros = {name: array * 0 for name, array in state.items()}
    second = Candidate.load(spec, zeros)
    assert second.digest() != digest
    weight = first.network.parameters()
    assert all((array == state[name]).all() for name, array in weight.items())
    assert rebuild(spec, ()) is not rebuild(spec, ())
